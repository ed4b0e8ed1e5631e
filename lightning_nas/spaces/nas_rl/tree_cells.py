"""The recurrent cells of NAS-RL (Zoph and Le, ICLR 2017, arXiv:1611.01578, section 3.4): complete binary trees.

With base B there are the leaves 0 to B - 1, which have all the weights, and the nodes above them, level by level; the
last of the 2 B - 1 nodes is the root. Node B + k combines nodes 2 k and 2 k + 1.

Shapes: N rows, T words, I width of a cell's input, H width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_nas.ops.recurrent import ACTIVATIONS, Unrolled, masked

COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"add": torch.add, "elem_mult": torch.mul}

_FUNCTIONS = {name: make() for name, make in ACTIVATIONS.items()}


class Rule(NamedTuple):
    """Combination of two tensors: ``activation(combination(a, b))``."""

    combination: str
    activation: str

    def __call__(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The result before its activation, and after it."""
        combined = COMBINATIONS[self.combination](a, b)
        return combined, _FUNCTIONS[self.activation](combined)


@dataclass(frozen=True)
class Tree:
    """Options chosen for a cell.

    Attributes:
        nodes: rule of each node, leaves first.
        inject: rule by which the last cell state is combined.
        memory: the node whose value before its activation is the new cell state; the paper's first cell index.
        injected: the node whose output the last cell state is combined with; the second.
    """

    nodes: tuple[Rule, ...]
    inject: Rule
    memory: int
    injected: int

    @property
    def base(self) -> int:
        """The number of leaves."""
        return (len(self.nodes) + 1) // 2

    def children(self, node: int) -> tuple[int, int] | None:
        """The nodes that a node combines; None for a leaf."""
        first = 2 * (node - self.base)
        return (first, first + 1) if first >= 0 else None

    def __call__(self, x: Sequence[Tensor], h: Sequence[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute hidden and cell state (N, H) from the inputs of each leaf and the cell state."""
        outputs: list[Tensor] = []
        after = c
        for i, rule in enumerate(self.nodes):
            children = self.children(i)
            pair = (x[i], h[i]) if children is None else (outputs[children[0]], outputs[children[1]])
            before, output = rule(*pair)
            if i == self.memory:
                after = before
            outputs.append(self.inject(output, c)[1] if i == self.injected else output)
        return outputs[-1], after


class TreeCell(nn.Module):
    """A cell with its weights, 2 B matrices; it has no biases.

    Args:
        features: I.
        width: H.
        tree: tree of the cell.
        projection: columns of the hidden state, which then is the root's output times one more matrix; None for H.
    """

    def __init__(self, features: int, width: int, tree: Tree, *, projection: int | None = None) -> None:
        super().__init__()
        self.tree = tree
        self.of_x = nn.Parameter(torch.empty(features, tree.base * width))
        self.of_h = nn.Parameter(torch.empty(projection or width, tree.base * width))
        self.project = None if projection is None else nn.Parameter(torch.empty(width, projection))

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, h_mask: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden and cell states after each word of a window (N, T, I); the mask (N, H) is that of dropout."""
        n, t, features = x.shape
        inputs = (x.reshape(n * t, features) @ self.of_x).view(n, t, -1)
        hidden, cells = list[Tensor](), list[Tensor]()
        for now in inputs.unbind(1):
            recurrent = masked(h, h_mask) @ self.of_h
            h, c = self.tree(now.chunk(self.tree.base, 1), recurrent.chunk(self.tree.base, 1), c)
            h = h if self.project is None else h @ self.project
            hidden.append(h)
            cells.append(c)
        return hidden, cells


class TreeCells(Unrolled):
    """Stacked cells of one tree; each takes the hidden states of the cell below.

    The memory holds the hidden states, that of the last layer first, then the cell states in the same order.

    Args:
        width: H.
        tree: tree of all layers.
        layers: number of layers.
    """

    def __init__(self, width: int, tree: Tree, layers: int) -> None:
        super().__init__(width, layers, states=2)
        self.cells = nn.ModuleList(TreeCell(width, width, tree) for _ in range(layers))

    def forward(self, x: Tensor, before: Tensor, x_mask: Tensor | None, h_mask: Tensor | None, *told: Any) -> Tensor:
        """Compute hidden and cell states after each word, (N, T, 2 layers H)."""
        states = before.chunk(2 * self.layers, 1)
        hidden, memories = list[Tensor](), list[Tensor]()
        for i, cell in enumerate(self.cells):
            of_x, of_h = (None if m is None else m.chunk(self.layers, 1)[i] for m in (x_mask, h_mask))
            place = self.layers - 1 - i
            fed = masked(x, None if of_x is None else of_x[:, None])
            outputs, cells = cell(fed, states[place], states[self.layers + place], of_h)
            x = torch.stack(outputs, 1)
            hidden.insert(0, x)
            memories.insert(0, torch.stack(cells, 1))
        return torch.cat([*hidden, *memories], -1)


class Activations(nn.Module):
    """An activation over a window, (N, T, H) to (N, T, H), word by word; latency tables measure it."""

    def __init__(self, option: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[option]()

    def forward(self, states: Tensor) -> Tensor:
        return torch.stack([self.activation(s) for s in states.unbind(1)], 1)
