"""What spaces that are chains of blocks share: one option a block, one block after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import networkx as nx
from torch import Tensor


class Shape(NamedTuple):
    """Of one block: (in_channels, size, size) in, out_channels out."""

    in_channels: int
    out_channels: int
    stride: int
    size: int


def shapes(channels: int, size: int, stages: Iterable[Sequence[int]]) -> Iterator[Shape]:
    """Of the blocks of (channels, blocks, stride of the first) stages, the first one fed ``channels`` of ``size``.

    >>> [tuple(shape) for shape in shapes(16, 7, [(24, 2, 2)])]
    [(16, 24, 2, 7), (24, 24, 1, 4)]
    """
    for out_channels, depth, first_stride in stages:
        for position in range(depth):
            stride = first_stride if position == 0 else 1
            yield Shape(channels, out_channels, stride, size)
            channels, size = out_channels, -(-size // stride)


def chosen_state(state: Mapping[str, Tensor], blocks: str, chosen: Sequence[str]) -> dict[str, Tensor]:
    """The state of a supernet cut down to one option a block, by the names of the network on its own.

    Args:
        state: of the supernet; an option of a block is called ``BLOCKS.NUMBER.OPTION``.
        blocks: the name of the list of blocks.
        chosen: the option of each block.

    >>> state = {"stem": 0, "blocks.0.keep.w": 1, "blocks.0.skip.w": 2}
    >>> chosen_state(state, "blocks", ["skip"])
    {'stem': 0, 'blocks.0.w': 2}
    """
    kept = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == blocks:
            block, option, rest = rest.split(".", 2)
            if chosen[int(block)] != option:
                continue
            name = f"{blocks}.{block}.{rest}"
        kept[name] = value
    return kept


def chain_graph(nodes: Iterable[tuple[str, str]]) -> nx.DiGraph[str]:
    """A chain of (name, label)."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = []
    for name, label in nodes:
        graph.add_node(name, label=label)
        names.append(name)
    nx.add_path(graph, names)
    return graph
