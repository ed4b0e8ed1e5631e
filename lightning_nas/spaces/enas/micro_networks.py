"""The networks of ENAS' micro space (arXiv:1802.03268): cells stacked, as they are searched and as they are retrained.

A cell has two inputs, the outputs of the two cells before it (states 0 and 1), and nodes (states 2, 3, ...), each the
sum of two operations on earlier states, which may be the same one. States that no node uses are its output.

Both networks have a reduction cell after a third and after two thirds of the others. In the search a halving stands
before it, its operations have stride 1, and a 1x1 convolution takes every cell's output to the cell's width. The
network that is retrained has stride 2 on the inputs of a reduction cell, one more 1x1 convolution on every cell's
second input, and concatenation alone at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from torch import Tensor, nn

from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.cells import DropPath, FactorizedReduction, operation
from lightning_nas.ops.mixed import is_skip
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.darts.networks import Genotype
from lightning_nas.spaces.enas.operations import Combine, Concatenate


@dataclass(frozen=True)
class Place:
    """Where a cell stands in the network.

    Attributes:
        kind: "normal" or "reduce".
        channels: of every state inside.
        inputs: (channels, size) of what the cell is fed.
        halves: operations on the inputs have stride 2: a reduction cell of a network that is retrained.
    """

    kind: str
    channels: int
    inputs: tuple[tuple[int, int], tuple[int, int]]
    halves: bool

    @property
    def size(self) -> int:
        """Of the output."""
        return -(-self.inputs[1][1] // 2) if self.halves else self.inputs[1][1]

    def edge(self, state: int) -> tuple[int, int]:
        """(size, stride) of operations on a state."""
        return (self.inputs[1][1], 2) if self.halves and state < 2 else (self.size, 1)

    def calibrations(self) -> list[tuple[str, Operation] | None]:
        """Cost key and operation of what brings either input to the cell's channels and to one size, if need be."""
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
        """Fresh modules of :meth:`calibrations`."""
        return [nn.Identity() if made is None else made[1].build() for made in self.calibrations()]

    def operation(self, option: str, state: int, channels: int | None = None) -> nn.Module:
        """A fresh operation on a state."""
        channels, stride = channels or self.channels, self.edge(state)[1]
        if is_skip(option) and stride == 2:
            return FactorizedReduction(channels, channels, relu=False)
        return operation(option, channels, stride)

    def key(self, option: str, state: int) -> tuple[str, ...]:
        """Cost key of an operation on a state; none if it costs nothing."""
        size, stride = self.edge(state)
        free = is_skip(option) and stride == 1
        return () if free else (f"{option} {self.channels}x{size}x{size} /{stride}",)


class MicroCell(nn.Module):
    """A cell of a network on its own.

    Args:
        calibrate: what each input goes through.
        genotype: the (operation, state) of each node; the states that are the output.
        operations: a module for each, in order.
        output: takes the loose ends by their number.
        drop_path: what operations other than skips go through.
    """

    def __init__(
        self,
        calibrate: Sequence[nn.Module],
        genotype: Genotype,
        operations: Sequence[nn.Module],
        output: nn.Module,
        drop_path: nn.Module,
    ) -> None:
        super().__init__()
        self.genotype, self.output, self.drop_path = genotype, output, drop_path
        self.calibrate, self.operations = nn.ModuleList(calibrate), nn.ModuleList(operations)

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [prepare(x) for prepare, x in zip(self.calibrate, (before_last, last), strict=True)]
        operations = iter(self.operations)
        for node in self.genotype.nodes:
            outputs = [(option, next(operations)(states[state])) for option, state in node]
            joined = self.join(len(states), [y if is_skip(option) else self.drop_path(y) for option, y in outputs])
            states.append(joined)
        y: Tensor = self.output({j: states[j] for j in self.genotype.concat})
        return y

    def join(self, state: int, outputs: Sequence[Tensor]) -> Tensor:
        """A state from the outputs of its operations: their sum."""
        del state
        return reduce(add, outputs)


def searched_cell(place: Place, genotype: Genotype) -> MicroCell:
    """A cell as it is in the search."""
    operations = [place.operation(option, state) for node in genotype.nodes for option, state in node]
    output = Combine(place.channels, genotype.concat)
    return MicroCell(place.calibrate(), genotype, operations, output, nn.Identity())


def retrained_cell(place: Place, genotype: Genotype, share: float) -> MicroCell:
    """A cell of the network that is retrained.

    Args:
        place: where it stands.
        genotype: what it is made of.
        share: of the probability with which paths are dropped.
    """
    first, second = place.calibrate()
    second = nn.Sequential(second, relu_conv_bn(place.channels, place.channels))
    operations = [place.operation(option, state) for node in genotype.nodes for option, state in node]
    halved = [j for j in genotype.concat if place.edge(j)[1] == 2]
    output = Concatenate({j: FactorizedReduction(place.channels, place.channels, relu=False) for j in halved})
    return MicroCell([first, second], genotype, operations, output, DropPath(share))


class MicroNetwork(nn.Module):
    """Stem, cells, classifier. Images (N, C, H, W) in, logits (N, num_classes) out.

    Args:
        stem: what the first cell is fed twice.
        cells: what takes the last two outputs to the next.
        reductions: what halves the last output before some cells, by the cell's number.
        head: the classifier.
        auxiliary: in training, gives second logits from the output of the cell number ``seen``.
        seen: a cell's number.
        passed: numbers of cells whose first input is the first input of the next cell too.
    """

    def __init__(
        self,
        stem: nn.Module,
        cells: Sequence[nn.Module],
        reductions: Mapping[int, nn.Module],
        head: nn.Module,
        auxiliary: nn.Module | None = None,
        seen: int = -1,
        passed: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.stem, self.cells, self.head, self.auxiliary, self.seen = stem, nn.ModuleList(cells), head, auxiliary, seen
        self.passed = frozenset(passed)
        self.reductions = nn.ModuleDict({str(i): reduction for i, reduction in reductions.items()})

    def forward(self, x: Tensor, *told: Sequence[object]) -> Tensor | tuple[Tensor, Tensor]:
        """Args: images, and for each cell what it is told besides its inputs."""
        before_last = last = seen = self.stem(x)
        for i, cell in enumerate(self.cells):
            if str(i) in self.reductions:
                before_last, last = last, self.reductions[str(i)](last)
            y = cell(before_last, last, *(of[i] for of in told))
            before_last, last = before_last if i in self.passed else last, y
            seen = last if i == self.seen else seen
        logits: Tensor = self.head(last)
        return (logits, self.auxiliary(seen)) if self.auxiliary is not None and self.training else logits
