"""Cells of NASNet (arXiv:1707.07012), AmoebaNet (arXiv:1802.01548) and PNASNet (arXiv:1712.00559).

A cell has two inputs, the outputs of the two cells before it: the one before the last (state 0, :math:`h_{i-1}` of the
paper) and the last (state 1, :math:`h_i`). Both are brought to the cell's channels, except state 0 of the
first cell, which is the unchanged output of the stem. In a cell that halves, operations on states 0 and 1 have stride
2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import conv_bn, relu_conv_bn
from lightning_nas.ops.cells import Concatenate, DropPath, FactorizedReduction
from lightning_nas.ops.mixed import is_skip
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.cells.genotype import Genotype, genotype_graph
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.cells.stacked import GenotypeCell
from lightning_nas.spaces.nasnet.operations import operation

Made = tuple[str, Operation]
"""Cost key and operation."""


@dataclass(frozen=True)
class NASNetGenotype(Genotype):
    """Operations, wiring and joins of one kind of cell.

    Attributes:
        joins: "add" or "concat" of each node: how its two outputs become one state.
    """

    joins: tuple[str, ...]

    def width(self, state: int) -> int:
        """Width of a state, in the cell's channels."""
        return 2 if state > 1 and self.joins[state - 2] == "concat" else 1

    @property
    def widths(self) -> int:
        """Width of the output, in the cell's channels."""
        return sum(map(self.width, self.concat))

    def graph(self) -> CellGraph:
        """Draw the cell; nodes that concatenate are marked."""
        graph = genotype_graph(self)
        for number, join in enumerate(self.joins):
            if join == "concat":
                graph.nodes[str(number)]["label"] = f"{number}\nconcat"
        return graph


@dataclass(frozen=True)
class NASNetPlace(CellPlace):
    """Where a cell stands in the network.

    Attributes:
        raw: state 0 is the unchanged input, as in the first cell.
    """

    raw: bool = False

    def fed(self, state: int, width: int = 1) -> int:
        """Channels of a state."""
        return self.inputs[0][0] if self.raw and state == 0 else self.channels * width

    def calibrations(self) -> list[Made | None]:
        """Cost key and operation that bring either input to the cell's channels and size."""
        before, last = super().calibrations()
        if last is None:  # the last output always goes through a convolution
            channels, size = self.inputs[1]
            build = partial(relu_conv_bn, channels, channels)
            last = f"calibrate {channels}x{size}x{size} -> {channels} /1", Operation(build, (channels, size, size))
        return [None if self.raw else before, last]

    def operation(self, option: str, state: int, channels: int | None = None) -> nn.Module:
        """Build an operation on a state with ``channels`` channels."""
        return operation(option, channels or self.channels, self.channels, self.edge(state)[1])

    def made(self, option: str, state: int, width: int = 1) -> Made | None:
        """Cost key and operation of an option on a state; none if it costs nothing."""
        fed, (size, stride) = self.fed(state, width), self.edge(state)
        if is_skip(option) and stride == 1 and fed == self.channels:
            return None
        key = f"{option} {fed}x{size}x{size} -> {self.channels} /{stride}"
        return key, Operation(partial(self.operation, option, state, fed), (fed, size, size))

    def output(self, state: int) -> Made | None:
        """Cost key and operation between an input and the output it is part of."""
        fed, (size, stride) = self.fed(state), self.edge(state)
        if state > 1 or (stride == 1 and fed == self.channels):
            return None
        build = partial(FactorizedReduction if stride == 2 else conv_bn, fed, self.channels, relu=False)
        return f"output {fed}x{size}x{size} -> {self.channels} /{stride}", Operation(build, (fed, size, size))


class NASNetCell(GenotypeCell):
    """Cell of a stand-alone network.

    Args:
        place: where the cell stands.
        genotype: operations, wiring and joins.
        share: share of the drop-path probability.
    """

    def __init__(self, place: NASNetPlace, genotype: NASNetGenotype, share: float) -> None:
        operations = [
            place.operation(option, state, place.fed(state, genotype.width(state)))
            for node in genotype.nodes
            for option, state in node
        ]
        through = {state: made[1].build() for state in genotype.concat if (made := place.output(state))}
        super().__init__(place.calibrate(), genotype, operations, Concatenate(through), DropPath(share))
        self.joins = genotype.joins

    def join(self, state: int, outputs: Sequence[Tensor]) -> Tensor:
        """Make a state from the results of its operations: their sum, or their concatenation."""
        return torch.cat(list(outputs), 1) if self.joins[state - 2] == "concat" else super().join(state, outputs)
