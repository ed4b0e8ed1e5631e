"""The networks of NASNet (arXiv:1707.07012), AmoebaNet (arXiv:1802.01548) and PNASNet (arXiv:1712.00559): their cells.

A cell has two inputs, the outputs of the two cells before it: the one before the last (state 0, :math:`h_{i-1}` of the
paper) and the last (state 1, :math:`h_i`). Both are brought to the cell's channels, but for what the first cell of a
network sees as state 0, the stem's output as it is. In a cell that halves, operations on states 0 and 1 have stride 2.
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
    """One kind of cell.

    Attributes:
        joins: "add" or "concat" of each node: how its two outputs become one state.
    """

    joins: tuple[str, ...]

    def width(self, state: int) -> int:
        """Of a node, in the cell's channels."""
        return 2 if state > 1 and self.joins[state - 2] == "concat" else 1

    @property
    def widths(self) -> int:
        """Of the output, in the cell's channels."""
        return sum(map(self.width, self.concat))

    def graph(self) -> CellGraph:
        """For pictures; nodes that concatenate say so."""
        graph = genotype_graph(self)
        for number, join in enumerate(self.joins):
            if join == "concat":
                graph.nodes[str(number)]["label"] = f"{number}\nconcat"
        return graph


@dataclass(frozen=True)
class NASNetPlace(CellPlace):
    """Where a cell stands in the network.

    Attributes:
        raw: the first cell: its state 0 is the input as it is.
    """

    raw: bool = False

    def fed(self, state: int, width: int = 1) -> int:
        """Channels of a state."""
        return self.inputs[0][0] if self.raw and state == 0 else self.channels * width

    def calibrations(self) -> list[Made | None]:
        """Cost key and operation of what brings either input to the cell's channels and to one size."""
        before, last = super().calibrations()
        if last is None:  # the last output goes through a convolution in any case
            channels, size = self.inputs[1]
            build = partial(relu_conv_bn, channels, channels)
            last = f"calibrate {channels}x{size}x{size} -> {channels} /1", Operation(build, (channels, size, size))
        return [None if self.raw else before, last]

    def operation(self, option: str, state: int, channels: int | None = None) -> nn.Module:
        """A fresh operation on a state, of so many channels."""
        return operation(option, channels or self.channels, self.channels, self.edge(state)[1])

    def made(self, option: str, state: int, width: int = 1) -> Made | None:
        """Cost key and operation of an option on a state; none if it costs nothing."""
        fed, (size, stride) = self.fed(state, width), self.edge(state)
        if is_skip(option) and stride == 1 and fed == self.channels:
            return None
        key = f"{option} {fed}x{size}x{size} -> {self.channels} /{stride}"
        return key, Operation(partial(self.operation, option, state, fed), (fed, size, size))

    def output(self, state: int) -> Made | None:
        """Cost key and operation of what an input goes through if it is part of the output."""
        fed, (size, stride) = self.fed(state), self.edge(state)
        if state > 1 or (stride == 1 and fed == self.channels):
            return None
        build = partial(FactorizedReduction if stride == 2 else conv_bn, fed, self.channels, relu=False)
        return f"output {fed}x{size}x{size} -> {self.channels} /{stride}", Operation(build, (fed, size, size))


class NASNetCell(GenotypeCell):
    """A cell of a network on its own.

    Args:
        place: where it stands.
        genotype: what it is made of.
        share: of the probability with which paths are dropped.
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
        """A state from the outputs of its operations: their sum, or both side by side."""
        return torch.cat(list(outputs), 1) if self.joins[state - 2] == "concat" else super().join(state, outputs)
