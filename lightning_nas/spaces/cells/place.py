"""Place of a cell in a stack of cells, and the modules that depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.cells import FactorizedReduction, operation
from lightning_nas.ops.mixed import is_skip
from lightning_nas.spaces.base import Operation

Stem = Literal["cifar", "imagenet"]
"""One 3x3 convolution for small images, or convolutions (and cells) of stride 2 for large ones."""

Widths = Mapping[str, int]
"""Width of a cell's output in the cell's channels, by kind of cell."""


@dataclass(frozen=True)
class CellPlace:
    """Place of a cell in a stack of cells: its inputs and its width.

    Attributes:
        kind: "normal" or "reduce".
        channels: channels of every state inside the cell.
        inputs: (channels, size) of both inputs.
        halves: operations on the inputs have stride 2, as in reduction cells.
    """

    kind: str
    channels: int
    inputs: tuple[tuple[int, int], tuple[int, int]]
    halves: bool

    @property
    def size(self) -> int:
        """Height and width of the output."""
        return -(-self.inputs[1][1] // 2) if self.halves else self.inputs[1][1]

    def edge(self, state: int) -> tuple[int, int]:
        """(input size, stride) of operations on a state."""
        return (self.inputs[1][1], 2) if self.halves and state < 2 else (self.size, 1)

    def calibrations(self) -> list[tuple[str, Operation] | None]:
        """Cost key and operation that bring either input to the cell's channels and size; None if not needed."""
        made: list[tuple[str, Operation] | None] = []
        for channels, size in self.inputs:
            stride = 1 if size == self.inputs[1][1] else 2
            if channels == self.channels and stride == 1:
                made.append(None)
                continue
            build = partial(FactorizedReduction if stride == 2 else relu_conv_bn, channels, self.channels)
            key = f"calibrate {channels}x{size}x{size} -> {self.channels} /{stride}"
            made.append((key, Operation(build, (channels, size, size))))
        return made

    def calibrate(self) -> list[nn.Module]:
        """Build the modules of :meth:`calibrations`."""
        return [nn.Identity() if made is None else made[1].build() for made in self.calibrations()]

    def operation(self, option: str, state: int, channels: int | None = None) -> nn.Module:
        """Build an operation on a state."""
        channels, stride = channels or self.channels, self.edge(state)[1]
        if is_skip(option) and stride == 2:
            return FactorizedReduction(channels, channels, relu=False)
        return operation(option, channels, stride)

    def key(self, option: str, state: int) -> tuple[str, ...]:
        """Cost key of an operation on a state; empty if it is free."""
        size, stride = self.edge(state)
        free = is_skip(option) and stride == 1
        return () if free else (f"{option} {self.channels}x{size}x{size} /{stride}",)
