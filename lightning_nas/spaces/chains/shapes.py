"""Shapes of the blocks of a chain, from a list of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lightning_nas.spaces.sides import Size


class Shape(NamedTuple):
    """Shape of one block: (in_channels, height, width) in, out_channels out."""

    in_channels: int
    out_channels: int
    stride: int
    size: Size


def shapes(channels: int, size: Size, stages: Iterable[Sequence[int]]) -> Iterator[Shape]:
    """Yield the shapes of the blocks of stages (channels, blocks, stride of the first), for (channels, *size) in.

    >>> [tuple(shape) for shape in shapes(16, 7, [(24, 2, 2)])]
    [(16, 24, 2, 7), (24, 24, 1, 4)]
    """
    for out_channels, depth, first_stride in stages:
        for position in range(depth):
            stride = first_stride if position == 0 else 1
            yield Shape(channels, out_channels, stride, size)
            channels, size = out_channels, -(-size // stride)
