"""Base classes of the recurrent spaces of DARTS and ENAS, whose nodes share matrices in a supernet."""

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
    """Base class of spaces whose nodes have a matrix and an activation each, as in ENAS, with a supernet.

    Args:
        name: name of the space, which its architectures carry.
        settings: settings of :class:`RecurrentSpace`, including ``norm``.
        evaluation: arguments of the network that is retrained, where they differ; it has no norm.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> None:
        plainer = {"norm": False} if settings["norm"] else {}
        super().__init__(name, settings, {**plainer, **(evaluation or {})})
        self.norm = settings["norm"]

    def step_keys(self, option: str) -> Keys:
        """Cost keys of a node with this activation."""
        return () if option == "none" else (f"{option} {self.input_shape[0]}x{self.width}",)

    def operations(self) -> dict[str, Operation]:
        """List a language model without nodes, and a node with each activation, for one window."""
        (bptt,), width = self.input_shape, self.width
        operations = {self.words_key(): self.words()}
        for option in ACTIVATIONS:
            build = lambda option=option: Step(width, option, norm=self.norm)  # noqa: E731
            operations[self.step_keys(option)[0]] = Operation(build, (bptt, width))
        return operations


def recurrent_graphs(
    states: Sequence[int], activation: str, edges: Iterable[tuple[int, int, str]], ends: Iterable[int]
) -> dict[str, CellGraph]:
    """Draw a recurrent cell as the papers do: word and hidden state, numbered states, their mean.

    Args:
        states: numbers of the states; the first is made of word and hidden state.
        activation: activation of the first state, "" if it is not chosen.
        edges: (source, target, activation) of the other states.
        ends: states whose mean is the new hidden state.
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
