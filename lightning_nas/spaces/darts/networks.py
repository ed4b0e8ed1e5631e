"""Networks of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055): stacked cells, stand-alone or as a supernet.

A cell has two inputs, the outputs of the two cells before it (states 0 and 1), and nodes (states 2, 3, ...), each the
sum of operations on earlier states. Reduction cells, at one third and two thirds of the depth, halve the size by
operations of stride 2 on their inputs, and double the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.cells import DropPath, FactorizedReduction, operation
from lightning_nas.ops.fused_cells import can_fuse, mix_cell
from lightning_nas.ops.mixed import Choice, Mix
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.cells.genotype import Genotype
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import Size, by


@dataclass(frozen=True)
class CellShape:
    """Where a cell stands in the network.

    Attributes:
        kind: "normal" or "reduce".
        channels: channels of every state inside.
        inputs: (channels, size) of the outputs of the cell before the last, and of the last.
        affine, pool_norm: which batch norms there are; see :func:`~lightning_nas.ops.cells.operation`.
    """

    kind: str
    channels: int
    inputs: tuple[tuple[int, Size], tuple[int, Size]]
    affine: bool
    pool_norm: bool = False

    @property
    def size(self) -> Size:
        """Height and width of the states inside and of the output."""
        return -(-self.inputs[1][1] // 2) if self.kind == "reduce" else self.inputs[1][1]

    def halves(self, index: int) -> bool:
        """Whether an input must be halved to have the size of the other one."""
        return self.inputs[index][1] != self.inputs[1][1]

    def preprocess(self, index: int) -> nn.Module:
        """Build the module that brings an input to the cell's channels and size."""
        make = FactorizedReduction if self.halves(index) else relu_conv_bn
        return make(self.inputs[index][0], self.channels, affine=self.affine)

    def edge(self, state: int) -> tuple[Size, int]:
        """(size of the input, stride) of operations on a state."""
        return (self.inputs[1][1], 2) if self.kind == "reduce" and state < 2 else (self.size, 1)

    def operation(self, option: str, state: int, channels: int | None = None) -> nn.Module:
        """A fresh operation on a state."""
        norms = {"affine": self.affine, "pool_norm": self.pool_norm}
        return operation(option, channels or self.channels, self.edge(state)[1], **norms)

    def key(self, option: str, state: int) -> tuple[str, ...]:
        """Cost key of an operation on a state; none if it costs nothing."""
        size, stride = self.edge(state)
        free = option == "none" or (option == "skip_connect" and stride == 1)
        return () if free else (f"{option} {self.channels}x{by(size)} /{stride}",)


class Cell(nn.Module):
    """Cell of a stand-alone network, with drop-path on all operations but the identity."""

    def __init__(self, shape: CellShape, genotype: Genotype) -> None:
        super().__init__()
        self.genotype = genotype
        self.preprocess = nn.ModuleList(shape.preprocess(i) for i in (0, 1))
        self.operations = nn.ModuleList(
            shape.operation(option, state) for node in genotype.nodes for option, state in node
        )
        self.drop_path = DropPath()

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = {
            i: prepare(x) for i, (prepare, x) in enumerate(zip(self.preprocess, (before_last, last), strict=True))
        }
        operations = iter(self.operations)
        for number, node in enumerate(self.genotype.nodes, start=2):
            if node:
                states[number] = reduce(add, [self._run(next(operations), states[state]) for _, state in node])
        return torch.cat([states[number] for number in self.genotype.concat], 1)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = module(x)
        return y if isinstance(module, nn.Identity) else self.drop_path(y)


class DARTSNetwork(nn.Module):
    """Stem, cells, classifier. Images (N, C, H, W) in, logits (N, num_classes) out.

    With an auxiliary classifier, which sees the output of the second reduction cell, (logits, auxiliary logits) in
    training mode.
    """

    def __init__(
        self, stem: nn.ModuleList, cells: Sequence[Cell], head: nn.Module, auxiliary: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.stem, self.cells, self.head, self.auxiliary = stem, nn.ModuleList(cells), head, auxiliary

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        before_last, last = _through(self.stem, x)
        seen = last
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            if i == reductions(len(self.cells))[1]:
                seen = last
        logits: Tensor = self.head(last)
        return (logits, self.auxiliary(seen)) if self.auxiliary is not None and self.training else logits


class MixedCell(nn.Module):
    """A cell in which every edge, from each state to each later node, mixes all operations.

    With ``fused``, edges that leave one state are computed together where possible: the same numbers, faster.
    """

    def __init__(self, shape: CellShape, options: tuple[str, ...], nodes: int, mix: Mix, *, fused: bool) -> None:
        super().__init__()
        self.nodes, self.fused = nodes, fused
        self.strides = [shape.edge(state)[1] for state in range(nodes + 1)]
        self.preprocess = nn.ModuleList(shape.preprocess(i) for i in (0, 1))
        self.edges = nn.ModuleList(mix(_choice(shape, options, state)) for _, state in edges(nodes))

    def forward(self, before_last: Tensor, last: Tensor, rows: Tensor, active: Sequence[tuple[int, ...]]) -> Tensor:
        """Mix by ``rows`` (edges, options)."""
        states = [prepare(x) for prepare, x in zip(self.preprocess, (before_last, last), strict=True)]
        if self.fused and can_fuse(self.edges):
            arrows = [(node + 2, source) for node, source in edges(self.nodes)]
            return torch.cat(mix_cell(states, arrows, self.edges, rows, active, self.strides), 1)
        for node in range(self.nodes):
            first = len(edges(node))
            running = (e for e in range(first, first + len(states)) if active[e])
            mixed = [self.edges[e](states[e - first], rows[e], active[e]) for e in running]
            states.append(reduce(add, mixed))
        return torch.cat(states[2:], 1)


class DARTSSupernet(Supernet):
    """Stem, mixed cells, classifier; all cells of a kind follow the same gates."""

    def __init__(self, stem: nn.ModuleList, cells: Sequence[MixedCell], kinds: Sequence[str], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.cells, self.kinds, self.head = stem, nn.ModuleList(cells), tuple(kinds), head

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each cell by the gates of its kind."""
        if self.cells[0].fused and x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        before_last, last = _through(self.stem, x)
        for kind, cell in zip(self.kinds, self.cells, strict=True):
            before_last, last = last, cell(before_last, last, gates.values[kind], gates.active[kind])
        logits: Tensor = self.head(last)
        return logits


def edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """The (node, state) of every edge of a cell, in the order of the gates.

    >>> edges(2)
    ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    """
    return tuple((node, state) for node in range(nodes) for state in range(node + 2))


def reductions(cells: int) -> tuple[int, int]:
    """The places of the reduction cells.

    >>> reductions(8), reductions(20), reductions(14)
    ((2, 5), (6, 13), (4, 9))
    """
    return cells // 3, 2 * cells // 3


def _through(stem: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs of the first cell: the last output of the stem twice, or its last two outputs."""
    before_last = last = stem[0](x)
    for stage in stem[1:]:
        before_last, last = last, stage(last)
    return before_last, last


def _choice(shape: CellShape, options: tuple[str, ...], state: int) -> Choice:
    def build(option: str, in_channels: int, out_channels: int) -> nn.Module:
        assert in_channels == out_channels, "operations of a cell keep the number of channels"
        return shape.operation(option, state, in_channels)

    return Choice(options, build, shape.channels, shape.channels, shape.edge(state)[1])
