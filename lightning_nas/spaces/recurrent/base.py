"""Recurrent cells whose nodes share matrices in a supernet: what DARTS' and ENAS' spaces have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_nas.ops.recurrent import ACTIVATIONS, LanguageModel
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace
from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.language_models import RecurrentSpace
from lightning_nas.spaces.recurrent.cells import Step


class SharedRecurrentSpace(RecurrentSpace, WeightSharingSpace):
    """Cells of nodes that have a matrix and an activation each, after ENAS, with a supernet.

    Args:
        name: name of the space, which its architectures carry.
        settings: of :class:`RecurrentSpace`, ``norm`` among them.
        evaluation: what is otherwise in the network that is retrained; that one has no norm.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> None:
        plainer = {"norm": False} if settings["norm"] else {}
        super().__init__(name, settings, {**plainer, **(evaluation or {})})
        self.norm = settings["norm"]

    def step_keys(self, option: str) -> Keys:
        """Cost keys of a node with this activation."""
        return () if option == "none" else (f"{option} {self.input_shape[0]}x{self.width}",)

    def operations(self) -> dict[str, Operation]:
        """A language model without nodes, and a node with each activation; all for one window."""
        (bptt,), width = self.input_shape, self.width
        operations = {self.words_key(): self.words()}
        for option in ACTIVATIONS:
            build = lambda option=option: Step(width, option, norm=self.norm)  # noqa: E731
            operations[self.step_keys(option)[0]] = Operation(build, (bptt, width))
        return operations


def recurrent_graphs(
    states: Sequence[int], activation: str, edges: Iterable[tuple[int, int, str]], ends: Iterable[int]
) -> dict[str, CellGraph]:
    """A recurrent cell as the papers draw it: word and hidden state, numbered states, their mean.

    Args:
        states: numbers; the first is made of word and hidden state.
        activation: of the first, "" if it is not chosen.
        edges: (source, target, activation) of the others.
        ends: states that are averaged.
    """
    word, before, after, first = "x_{t}", "h_{t-1}", "h_{t}", str(states[0])
    drawn = [(word, first, activation), (before, first, "")]
    drawn += [(str(source), str(target), option) for source, target, option in edges]
    drawn += [(str(end), after, "") for end in ends]
    numbered = {str(state): str(state) for state in states}
    return {"recurrent cell": cell_graph({word: word, before: before} | numbered | {after: f"{after}\nmean"}, drawn)}


class RNNSupernet(Supernet):
    """A language model whose cell takes gates."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Logits (N, T, num_classes) of words (N, T) or of a window of them."""
        logits: Tensor = self.model(x, gates)
        return logits
