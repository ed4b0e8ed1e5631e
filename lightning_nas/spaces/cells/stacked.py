"""Networks of stacked cells: each cell takes the outputs of the two cells before it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Protocol

import networkx as nx
from torch import Tensor, nn

from lightning_nas.ops.mixed import is_skip
from lightning_nas.spaces.cells.genotype import Genotype
from lightning_nas.spaces.cells.place import Widths
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.sides import Size, by


class GenotypeCell(nn.Module):
    """The cell of a genotype, in a stand-alone network.

    Args:
        calibrate: a module for each input.
        genotype: operations, wiring and output.
        operations: a module for each operation of the genotype, in order.
        output: maps the output states, by number, to the output.
        drop_path: applied to the results of operations other than skips.
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
        """Make a state from the results of its operations: their sum."""
        del state
        return reduce(add, outputs)


class StackedCells(nn.Module):
    """Stem, cells, classifier. Images (N, C, H, W) in, logits (N, num_classes) out.

    Args:
        stem: both inputs of the first cell.
        cells: modules that map the last two outputs to the next.
        reductions: modules that halve the last output before a cell, by the cell's number.
        head: classifier.
        auxiliary: auxiliary classifier on the output of cell ``seen``, used in training.
        seen: number of that cell.
        passed: numbers of cells whose first input is also the first input of the next cell.
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
        """Compute logits of images; each sequence in ``told`` holds one further argument for every cell."""
        before_last = last = seen = self.stem(x)
        for i, cell in enumerate(self.cells):
            if str(i) in self.reductions:
                before_last, last = last, self.reductions[str(i)](last)
            y = cell(before_last, last, *(of[i] for of in told))
            before_last, last = before_last if i in self.passed else last, y
            seen = last if i == self.seen else seen
        logits: Tensor = self.head(last)
        return (logits, self.auxiliary(seen)) if self.auxiliary is not None and self.training else logits


class Standing(Protocol):
    """Kind, channels and output size of a cell in a stack."""

    @property
    def kind(self) -> str: ...

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> Size: ...


def stacked_cells_graph(stem: str, places: Iterable[Standing], widths: Widths, num_classes: int) -> nx.DiGraph[str]:
    """Draw stem, cells and classifier as a chain, with one box for consecutive cells of a kind."""
    boxes: list[tuple[str, str]] = [("stem", stem)]
    for kind, run in itertools.groupby(places, key=lambda place: place.kind):
        *_, last = cells = list(run)
        size = f"{last.channels * widths[kind]}x{by(last.size)}"
        boxes.append((f"cells_{len(boxes)}", f"{len(cells)} x {kind}\n{size}"))
    return chain_graph([*boxes, ("head", f"{num_classes} classes")])
