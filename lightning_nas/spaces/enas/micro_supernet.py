"""The supernet of ENAS' micro space (arXiv:1802.03268): all cells in one, mixed by gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor, nn

from lightning_nas.functional.loose_ends import loose_ends
from lightning_nas.ops.mixed import Choice, Mix
from lightning_nas.spaces.base import Supernet
from lightning_nas.spaces.cells.pairwise import SLOTS
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.cells.stacked import StackedCells
from lightning_nas.spaces.enas.operations import MICRO, Combine, by_batch
from lightning_nas.spaces.gates import Active, Gates


@dataclass(frozen=True)
class Mixture:
    """How one kind of cell is mixed.

    Attributes:
        inputs: of each operation the states that it takes: (number of the state, gates of the operations, scaled).
        active: of each operation, the options that run.
        loose: the states that may be loose ends.
        weights: of these, or None where all are 1.
    """

    inputs: tuple[tuple[tuple[int, Tensor], ...], ...]
    active: Active
    loose: tuple[int, ...]
    weights: Tensor | None

    @classmethod
    def of(cls, kind: str, gates: Gates, nodes: int) -> Mixture:
        """What the gates say of a kind."""
        operations = gates.values[f"{kind}_operations"].unbind(0)
        takes: list[Tensor] = []
        runs: list[tuple[int, ...]] = []
        for node in range(nodes):
            group = f"{kind}_{node + 2}_inputs"
            takes += gates.values[group].unbind(0)
            runs += gates.active[group]
        inputs = tuple(
            tuple((j, take[j] * row) for j in run) for take, run, row in zip(takes, runs, operations, strict=True)
        )
        return cls(inputs, gates.active[f"{kind}_operations"], *loose_ends(takes, runs, nodes + 2))


class MixedMicroCell(nn.Module):
    """A cell in which each of a node's two operations mixes all operations on all earlier states.

    Every operation of every node on every state has weights of its own.
    """

    def __init__(self, place: CellPlace, nodes: int, mix: Mix) -> None:
        super().__init__()
        self.nodes = nodes
        self.calibrate = nn.ModuleList(place.calibrate())
        self.edges = nn.ModuleDict()
        for node in range(nodes):
            for slot in SLOTS:
                for state in range(node + 2):
                    choice = Choice(MICRO, partial(_build, place, state), place.channels, place.channels)
                    self.edges[edge_name(node, slot, state)] = mix(choice)
        self.output = Combine(place.channels, range(nodes + 2))

    def forward(self, before_last: Tensor, last: Tensor, mixture: Mixture) -> Tensor:
        states = [prepare(x) for prepare, x in zip(self.calibrate, (before_last, last), strict=True)]
        for node in range(self.nodes):
            parts = []
            for slot in SLOTS:
                number = 2 * node + slot
                for state, row in mixture.inputs[number]:
                    edge = self.edges[edge_name(node, slot, state)]
                    parts.append(edge(states[state], row, mixture.active[number]))
            states.append(reduce(add, parts))
        loose = {j: states[j] for j in mixture.loose}
        if mixture.weights is not None:
            weights = mixture.weights.to(last.dtype)
            loose = {j: weight * states[j] for j, weight in zip(mixture.loose, weights, strict=True)}
        y: Tensor = self.output(loose)
        return y


class MicroSupernet(Supernet):
    """The network of mixed cells; all cells of a kind follow the same gates."""

    def __init__(self, network: StackedCells, kinds: Sequence[str], nodes: int) -> None:
        super().__init__()
        by_batch(network)
        self.network, self.kinds, self.nodes = network, tuple(kinds), nodes

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each cell by the gates of its kind."""
        if x.device.type == "cpu":  # half the time of the other order of channels
            x = x.contiguous(memory_format=torch.channels_last)
        mixtures = {kind: Mixture.of(kind, gates, self.nodes) for kind in dict.fromkeys(self.kinds)}
        logits: Tensor = self.network(x, [mixtures[kind] for kind in self.kinds])
        return logits


def edge_name(node: int, slot: int, state: int) -> str:
    """Of what mixes the operations of a node on a state."""
    return f"{node}_{slot}_{state}"


def _build(place: CellPlace, state: int, option: str, in_channels: int, out_channels: int) -> nn.Module:
    assert in_channels == out_channels, "operations of a cell keep the number of channels"
    return place.operation(option, state, in_channels)
