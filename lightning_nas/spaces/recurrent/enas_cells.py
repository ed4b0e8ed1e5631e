"""Cells of ENAS' recurrent space: a chosen cell, and the cell that mixes all options.

Node 1 is ``h_1 = c f(g) + (1 - c) h`` with ``[c, g] = [x, h] W``, node i the same with a node j before it for h and
``[c, g] = h_j W_ij``, c after a sigmoid; every pair of nodes has a matrix of its own. The new hidden state is the mean
of the loose ends, the nodes that no other takes.

Shapes: J nodes before one, N rows, H width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.functional.loose_ends import loose_ends
from lightning_nas.ops.mixed import MixedOp
from lightning_nas.ops.recurrent import ACTIVATIONS, BatchStatistics, Recurrent, Transition, masked
from lightning_nas.spaces.gates import Gates

OPTIONS = tuple(ACTIVATIONS)
OPERATIONS = "operations"


def input_group(node: int) -> str:
    """The group of gates for the input of a node; the first two have no choice."""
    return f"node_{node}_input"


class ChosenCell(Recurrent):
    """Cell with one input and one activation a node.

    Args:
        width: H.
        activations: of every node.
        sources: of the second and every later node the number of its input, counted from 0.
        norm: batch norm by the batch's own statistics on the mean.
    """

    def __init__(self, width: int, activations: Sequence[str], sources: Sequence[int], *, norm: bool) -> None:
        super().__init__(width)
        self.sources = tuple(sources)
        self.outputs = tuple(j for j in range(len(activations)) if j not in self.sources)
        self.steps = nn.ParameterList([torch.empty(width, 2 * width) for _ in sources])
        self.activations = nn.ModuleList(ACTIVATIONS[option]() for option in activations)
        self.norm: nn.Module = BatchStatistics() if norm else nn.Identity()

    def step(self, *told: Any) -> Transition:
        return _chosen(self.activations, self.sources, self.steps, self.outputs, self.norm)


def _chosen(
    activations: Iterable[nn.Module],
    sources: Sequence[int],
    weights: Iterable[Tensor],
    outputs: Sequence[int],
    norm: nn.Module,
) -> Transition:
    """The step of a cell with one input and one activation a node."""
    first, *others = activations
    nodes = list(zip(sources, weights, others, strict=True))

    def step(h: Tensor, c: Tensor, g: Tensor, h_mask: Tensor | None) -> Tensor:
        states = [torch.lerp(h, first(g), c.sigmoid())]
        for source, weight, activation in nodes:
            s = states[source]
            c, g = (masked(s, h_mask) @ weight).chunk(2, 1)
            states.append(torch.lerp(s, activation(g), c.sigmoid()))
        mean: Tensor = norm(_mean([states[j] for j in outputs]))
        return mean

    return step


@dataclass(frozen=True)
class _Node:
    """Mixture of one node in one pass.

    Attributes:
        live: numbers of the inputs that run.
        weight: (H, 2H), or (J, H, 2H) of several inputs; None for the first node.
        take: gates of these inputs, (J,); None where there is no choice.
        row: gates of the activations.
        run: those that run.
        mix: what mixes them.
    """

    live: tuple[int, ...]
    weight: Tensor | None
    take: Tensor | None
    row: Tensor
    run: tuple[int, ...]
    mix: MixedOp

    def update(self, s: Tensor, c: Tensor, g: Tensor) -> Tensor:
        """A node from its inputs, (N, H) or (J, N, H)."""
        mixed = self.mix(g.reshape(-1, g.shape[-1]), self.row, self.run).view_as(g)
        kept = self.row[list(self.run)].sum()
        return torch.lerp(kept * s, mixed, c.sigmoid())

    def __call__(self, states: list[Tensor], h_mask: Tensor | None) -> Tensor:
        assert self.weight is not None
        several = len(self.live) > 1
        s = torch.stack([states[j] for j in self.live]) if several else states[self.live[0]]
        c, g = (masked(s, h_mask) @ self.weight).chunk(2, -1)
        y = self.update(s, c, g)
        if self.take is None:
            return y
        return torch.einsum("j,jnh->nh", self.take, y) if several else self.take * y


class MixedCell(Recurrent):
    """Cell that mixes all inputs and activations of every node; inputs that are not active are not computed.

    Args:
        width: H.
        mixed: modules that mix the activations of each node.
        norm: batch norm by the batch's own statistics on the mean.
    """

    def __init__(self, width: int, mixed: Sequence[MixedOp], *, norm: bool) -> None:
        super().__init__(width)
        self.pairs = nn.ParameterDict(
            {pair_name(i, j): torch.empty(width, 2 * width) for i in range(1, len(mixed)) for j in range(i)}
        )
        self.mixed = nn.ModuleList(mixed)
        self.norm: nn.Module = BatchStatistics() if norm else nn.Identity()

    def step(self, *told: Any) -> Transition:
        """Args: the gates."""
        gates: Gates = told[0]
        if gates.one_path and all(type(mix) is MixedOp for mix in self.mixed):
            return self._one_path(gates)
        first, *nodes = (self._node(i, gates) for i in range(len(self.mixed)))
        chosen = [input_group(i) for i in range(3, len(self.mixed) + 1)]
        rows = [self.first.new_ones(1)] * (len(self.mixed) > 1) + [gates.values[group][0] for group in chosen]
        runs = [(0,)] * (len(self.mixed) > 1) + [gates.active[group][0] for group in chosen]
        outputs, weights = loose_ends(rows, runs, len(self.mixed))

        def step(h: Tensor, c: Tensor, g: Tensor, h_mask: Tensor | None) -> Tensor:
            states = [first.update(h, c, g)]
            for node in nodes:
                states.append(node(states, h_mask))
            mean: Tensor = self.norm(_mean([states[j] for j in outputs], weights))
            return mean

        return step

    def _one_path(self, gates: Gates) -> Transition:
        """Make the step of a one-path pass, without multiplications by one."""
        nodes = range(1, len(self.mixed))
        options = [OPTIONS[k] for (k,) in gates.active[OPERATIONS]]
        sources = [gates.active[input_group(i + 1)][0][0] if i > 1 else 0 for i in nodes]
        activations = [mix.get_submodule(option) for mix, option in zip(self.mixed, options, strict=True)]
        weights = [self.pairs[pair_name(i, j)] for i, j in zip(nodes, sources, strict=True)]
        outputs = [j for j in range(len(self.mixed)) if j not in sources]
        return _chosen(activations, sources, weights, outputs, self.norm)

    def _node(self, i: int, gates: Gates) -> _Node:
        row, run = gates.values[OPERATIONS][i].to(self.first.dtype), gates.active[OPERATIONS][i]
        live, take = tuple(range(min(i, 1))), None
        if i > 1:
            group = input_group(i + 1)
            live = gates.active[group][0]
            take = gates.values[group][0].to(self.first.dtype)[list(live)]
        weights = [self.pairs[pair_name(i, j)] for j in live]
        weight = torch.stack(weights) if len(weights) > 1 else next(iter(weights), None)
        mix = self.mixed[i]
        assert isinstance(mix, MixedOp)
        return _Node(live, weight, take, row, run, mix)


def pair_name(node: int, source: int) -> str:
    """Name of the matrix from one node to a later one, both counted from 0."""
    return f"{node}_{source}"


def _mean(states: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
    """The mean of (N, H), weighted if weights are given."""
    if weights is None:
        return states[0] if len(states) == 1 else torch.stack(list(states)).mean(0)
    weights = weights.to(states[0].dtype)
    return torch.einsum("j,jnh->nh", weights / weights.sum(), torch.stack(list(states)))
