"""What recurrent search spaces have in common: sizes, dropout, the network that is retrained, cost by words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import networkx as nx
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.recurrent import ACTIVATIONS, Dropouts, LanguageModel, Unrolled
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, Supernet, WeightSharingSpace
from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph
from lightning_nas.spaces.chains.shapes import chain_graph
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.recurrent.cells import Step

SMALL_DROPS = {"drop_input": 0.1, "drop_x": 0.1, "drop_hidden": 0.1, "drop_output": 0.1}
"""Dropout of the small networks of all recurrent spaces."""


class RecurrentSpace(SearchSpace):
    """Recurrent cells in a language model with tied embedding.

    A subclass takes its settings as arguments of its constructor, and passes them on.

    Args:
        name: carried by the architectures.
        settings: the other arguments of the constructor but ``evaluation``: ``bptt``, ``num_classes``, ``width``,
            ``drop_...`` (see :class:`~lightning_nas.ops.recurrent.Dropouts`), and what is the subclass's own.
        evaluation: what is otherwise in the network that is retrained.

    Attributes:
        steps: nodes of a cell.

    Raises:
        InputError: an unknown name in ``evaluation``.
    """

    input_dtype = torch.int64
    steps: int

    def __init__(self, name: str, settings: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> None:
        self._settings, self._evaluation = dict(settings), dict(evaluation or {})
        if unknown := [key for key in self._evaluation if key not in self._settings]:
            legal = ", ".join(self._settings)
            raise InputError(f"search_space.evaluation has no key {shown(unknown[0])}; legal: {legal}")
        drops = {key.removeprefix("drop_"): p for key, p in settings.items() if key.startswith("drop_")}
        self.name, self.input_shape, self.num_classes = name, (settings["bptt"],), settings["num_classes"]
        self.width, self.drop = settings["width"], Dropouts(**drops)

    def evaluation(self) -> Self:
        """The space of the networks that are retrained, as ``evaluation`` says."""
        if not self._evaluation:
            return self
        make: Any = type(self)
        made: Self = make(self.name, **{**self._settings, **self._evaluation})
        return made

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Embedding, cell, decoder."""
        self.validate(architecture)
        words, cell = f"{self.num_classes} words", f"{self.steps} nodes\nwidth {self.width}"
        return chain_graph([("embedding", words), ("cell", cell), ("decoder", words)])

    # -- cost ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def empty(self) -> Unrolled:
        """A cell with no more than all have in common."""

    def words_key(self) -> str:
        """Cost key of :meth:`words`."""
        return f"words {self.input_shape[0]}x{self.num_classes} {self.width}"

    def words(self) -> Operation:
        """A language model with the cell :meth:`empty`, for one window."""

        def build() -> nn.Module:
            return LanguageModel(self.num_classes, self.empty(), self.drop)

        return Operation(build, self.input_shape, self.input_dtype)


class SharedRecurrentSpace(RecurrentSpace, WeightSharingSpace):
    """Cells of nodes that have a matrix and an activation each, after ENAS, with a supernet.

    Args:
        name: carried by the architectures.
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
