"""The cells of recurrent spaces: one that was chosen, and one that mixes all that can be.

Shapes: E edges into a node, N rows, H width, K options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.ops.mixed import MixedOp
from lightning_nas.ops.recurrent import ACTIVATIONS, BatchStatistics, Cell, Node, masked
from lightning_nas.spaces.gates import Gates

GROUP = "steps"
OPTIONS = ("none", *ACTIVATIONS)
Active = tuple[int, ...]

_FUNCTIONS = tuple(make() for make in ACTIVATIONS.values())


class FixedCell(Cell):
    """One predecessor and one activation a node.

    Args:
        width: H.
        chosen: (number of the predecessor, activation) of each node.
        outputs: of :class:`~lightning_nas.ops.recurrent.Cell`.
        norm: likewise.
    """

    def __init__(self, width: int, chosen: Sequence[tuple[int, str]], outputs: tuple[int, ...], *, norm: bool) -> None:
        super().__init__(width, len(chosen), outputs, norm=norm)
        self.sources = tuple(source for source, _ in chosen)
        self.activations = nn.ModuleList(ACTIVATIONS[option]() for _, option in chosen)

    def plan(self, *told: Any) -> list[Node]:
        parts = zip(self.sources, self.steps, self.activations, strict=True)
        return [partial(_chosen, self.norm, *part) for part in parts]


def _chosen(
    norm: nn.Module, source: int, weight: Tensor, activation: nn.Module, states: list[Tensor], h_mask: Tensor | None
) -> Tensor:
    s = states[source]
    c, g = (masked(s, h_mask) @ weight).chunk(2, 1)
    state: Tensor = norm(torch.lerp(s, activation(g), c.sigmoid()))
    return state


class MixedCell(Cell):
    """All predecessors and activations of every node, weighted by gates; edges on which only "none" runs are left out.

    Args:
        width: H.
        steps: number of nodes.
        outputs: of :class:`~lightning_nas.ops.recurrent.Cell`.
        mixed: what mixes the activations of each edge; None mixes those of a node at once.
        norm: likewise.
    """

    def __init__(
        self, width: int, steps: int, outputs: tuple[int, ...], mixed: Sequence[MixedOp] | None, *, norm: bool
    ) -> None:
        super().__init__(width, steps, outputs, norm=norm)
        self.mixed = None if mixed is None else nn.ModuleList(mixed)

    def plan(self, *told: Any) -> list[Node]:
        """Args: the gates."""
        gates: Gates = told[0]
        values, active = gates.values[GROUP].to(self.first.dtype), gates.active[GROUP]
        nodes: list[Node] = []
        for i, weight in enumerate(self.steps, start=1):
            first = i * (i - 1) // 2
            live = [j for j in range(i) if active[first + j] != (0,)]
            edges = [first + j for j in live]
            runs = [active[e] for e in edges]
            rows = values[first : first + i] if len(live) == i else values[edges]
            mixers = None if self.mixed is None else [self.mixed[e] for e in edges]
            kept = _kept(rows, runs)[:, None, None] if live else None
            nodes.append(partial(_mixed, live, weight, self.norm, kept, partial(_mix, rows, runs, mixers)))
        return nodes


def _mixed(
    live: list[int],
    weight: Tensor,
    norm: nn.Module,
    kept: Tensor | None,
    mix: Callable[[Tensor], Tensor],
    states: list[Tensor],
    h_mask: Tensor | None,
) -> Tensor:
    """The sum of the updates over a node's edges: of each, ``kept s + sigmoid(c) (mix(g) - kept s)``."""
    if kept is None:
        nothing: Tensor = norm(torch.zeros_like(states[0]))
        return nothing
    s = torch.stack([states[j] for j in live])
    c, g = (masked(s, h_mask) @ weight).chunk(2, 2)
    state: Tensor = norm(torch.lerp(kept * s, mix(g), c.sigmoid()).sum(0))
    return state


def _mix(rows: Tensor, runs: list[Active], mixers: list[nn.Module] | None, g: Tensor) -> Tensor:
    """The activations of each edge, weighted: by its own module, or all edges at once where the same ones run."""
    if mixers is not None:
        return torch.stack([mix(own, row, run) for mix, own, row, run in zip(mixers, g, rows, runs, strict=True)])
    if len(set(runs)) == 1:
        first, *others = [k for k in runs[0] if k]
        mixed: Tensor = rows[:, first, None, None] * _FUNCTIONS[first - 1](g)
        for k in others:
            mixed = torch.addcmul(mixed, rows[:, k, None, None], _FUNCTIONS[k - 1](g))
        return mixed
    one = zip(rows.unsqueeze(1), runs, g.unsqueeze(1), strict=True)
    return torch.cat([_mix(row, [run], None, own) for row, run, own in one])


def _kept(rows: Tensor, runs: list[Active]) -> Tensor:
    """(E,) how much of an edge is there: the sum of the gates of what runs on it, none apart."""
    counted = torch.tensor([[float(k > 0 and k in run) for k in range(rows.shape[1])] for run in runs])
    return (rows * counted.to(rows)).sum(1)


class Step(nn.Module):
    """One node over a window, (N, T, H) to (N, T, H), word by word as in a network: what a latency table measures."""

    def __init__(self, width: int, option: str, *, norm: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 2 * width).uniform_(-0.04, 0.04))
        self.activation = ACTIVATIONS[option]()
        self.norm: nn.Module = BatchStatistics() if norm else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        outputs = []
        for s in states.unbind(1):
            c, g = (s @ self.weight).chunk(2, 1)
            outputs.append(self.norm(torch.lerp(s, self.activation(g), c.sigmoid())))
        return torch.stack(outputs, 1)
