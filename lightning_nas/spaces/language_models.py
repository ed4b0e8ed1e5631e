"""Base class of spaces whose networks are language models with a recurrent cell: sizes, dropout, cost of a window."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import networkx as nx
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.recurrent import Dropouts, LanguageModel, Unrolled
from lightning_nas.spaces.base import Operation, SearchSpace
from lightning_nas.spaces.chain import chain_graph

SMALL_DROPS = {"drop_input": 0.1, "drop_x": 0.1, "drop_hidden": 0.1, "drop_output": 0.1}
"""Dropout of the small networks of all recurrent spaces."""


class RecurrentSpace(SearchSpace):
    """Recurrent cells in a language model with tied embedding.

    A subclass takes its settings as arguments of its constructor, and passes them on.

    Args:
        name: name of the space, which its architectures carry.
        settings: the other arguments of the constructor but ``evaluation``: ``bptt``, ``num_classes``, ``width``,
            ``drop_...`` (see :class:`~lightning_nas.ops.recurrent.Dropouts`), and what is the subclass's own.
        evaluation: what is otherwise in the network that is retrained.

    Attributes:
        steps: nodes of a cell.

    Raises:
        InputError: an unknown argument in ``evaluation``.
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
