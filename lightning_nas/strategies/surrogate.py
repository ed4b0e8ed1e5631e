"""Surrogate of PNAS (arXiv:1712.00559): predicts the reward of an architecture from its decisions, on any space.

An ensemble whose members are fitted to different shares of the trials; the prediction is their mean. A fit is a
function of the data and a generator, so a checkpoint does not need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision

SurrogateKind = Literal["lstm", "mlp"]
_CHUNK = 4096  # architectures predicted in one pass


class Surrogate(ABC):
    """An ensemble of E predictors, computed together: the first axis of all parameters is that of the members.

    Args:
        decisions: the inputs; equal decisions of different nodes share parameters.
        members: number of members E, at least 1.
        hidden: size of states and layers.
    """

    def __init__(self, decisions: Sequence[Decision], members: int, hidden: int) -> None:
        self.decisions, self.members, self.hidden = tuple(decisions), members, hidden
        self.parameters: list[Tensor] = []

    @abstractmethod
    def encode(self, architectures: Sequence[Architecture]) -> Tensor:
        """(N, ...) inputs."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> list[Tensor]:
        """New parameters."""

    @abstractmethod
    def run(self, inputs: Tensor) -> Tensor:
        """(E, N) predictions."""

    def fit(
        self,
        architectures: Sequence[Architecture],
        rewards: Sequence[float],
        generator: torch.Generator,
        *,
        steps: int = 100,
        lr: float = 0.01,
    ) -> None:
        """Fit from scratch with Adam, each member without another 1 / E of the data; targets are standardised.

        Args:
            architectures: N, at least 2 with different rewards.
            rewards: N.
            generator: of the parameters and the shares.
            steps: number of optimisation steps, each on all data.
            lr: learning rate.
        """
        exact = torch.tensor(rewards, dtype=torch.float64)
        targets = ((exact - exact.mean()) / exact.std()).float()
        inputs, kept = self.encode(architectures), self._shares(len(rewards), generator)
        self.parameters = [parameter.requires_grad_() for parameter in self.draw(generator)]
        optimizer = torch.optim.Adam(self.parameters, lr=lr)
        with torch.enable_grad():
            for _ in range(steps):
                optimizer.zero_grad()
                errors = (self.run(inputs) - targets).square() * kept
                (errors.sum(1) / kept.sum(1)).sum().backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def _shares(self, count: int, generator: torch.Generator) -> Tensor:
        """(E, N): 1 for the architectures that a member is fitted to, 0 for those it leaves out."""
        if self.members == 1 or count < self.members:
            return torch.ones(self.members, count)
        parts = torch.randperm(count, generator=generator) % self.members
        return (parts != torch.arange(self.members)[:, None]).float()

    def predict(self, architectures: Sequence[Architecture]) -> Tensor:
        """Predict (N,) standardised rewards, the mean over the members."""
        with torch.no_grad():
            chunks = (architectures[i : i + _CHUNK] for i in range(0, len(architectures), _CHUNK))
            return torch.cat([self.run(self.encode(chunk)).mean(0) for chunk in chunks])


class MLP(Surrogate):
    """A network of two hidden layers on the averaged embeddings of each kind of decision.

    Decisions of nodes are of one kind if they have the same place among the decisions of their node; any other decision
    is a kind of its own. A linear layer on averaged embeddings is a linear function of the frequency of each option,
    so embeddings and first layer are one layer here.
    """

    def __init__(self, decisions: Sequence[Decision], members: int, hidden: int) -> None:
        super().__init__(decisions, members, hidden)
        places, counts = list[str | int](), Counter[str]()
        for decision in self.decisions:
            places.append(decision.name if decision.node is None else counts[decision.node])
            counts[decision.node or ""] += 1
        taken = [(p, option) for p, d in zip(places, self.decisions, strict=True) for option in d.options]
        self._columns = {pair: column for column, pair in enumerate(dict.fromkeys(taken))}
        self._places = dict(zip((d.name for d in self.decisions), places, strict=True))

    def encode(self, architectures: Sequence[Architecture]) -> Tensor:
        inputs = torch.zeros(len(architectures), len(self._columns))
        rows, columns, shares = list[int](), list[int](), list[float]()
        for row, architecture in enumerate(architectures):
            there = [(self._places[name], option) for name, option in architecture.choices if name in self._places]
            numbers = Counter(place for place, _ in there)
            rows += [row] * len(there)
            columns += [self._columns[pair] for pair in there]
            shares += [1 / numbers[place] for place, _ in there]
        at = torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)
        return inputs.index_put_(at, torch.tensor(shares), accumulate=True)

    def draw(self, generator: torch.Generator) -> list[Tensor]:
        sizes = (len(self._columns), self.hidden, self.hidden, 1)
        drawn = []
        for i, o in pairwise(sizes):
            drawn += [_uniform((self.members, i, o), i, generator), torch.zeros(self.members, 1, o)]
        return drawn

    def run(self, inputs: Tensor) -> Tensor:
        x = inputs.expand(self.members, -1, -1)
        *layers, last, bias = self.parameters
        for weight, shift in zip(layers[::2], layers[1::2], strict=True):
            x = torch.baddbmm(shift, x, weight).relu()
        return torch.baddbmm(bias, x, last).squeeze(-1)


class LSTMSurrogate(Surrogate):
    """A recurrent network that reads the decisions in order and predicts the reward from its last state.

    Decisions with the same set of options share embeddings, and so do all references to earlier nodes.
    """

    def __init__(self, decisions: Sequence[Decision], members: int, hidden: int) -> None:
        super().__init__(decisions, members, hidden)
        words = [(_kind(decision), option) for decision in self.decisions for option in decision.options]
        self._words = {word: number for number, word in enumerate(dict.fromkeys(words), start=1)}  # 0: not decided
        self._kinds = [(decision.name, _kind(decision)) for decision in self.decisions]

    def encode(self, architectures: Sequence[Architecture]) -> Tensor:
        rows = []
        for architecture in architectures:
            choices = dict(architecture.choices)
            rows.append([self._words[kind, choices[name]] if name in choices else 0 for name, kind in self._kinds])
        return torch.tensor(rows)

    def draw(self, generator: torch.Generator) -> list[Tensor]:
        e, h, words = self.members, self.hidden, len(self._words) + 1
        gates = [_uniform((e, h, 4 * h), h, generator) for _ in range(2)]
        ends = [_uniform((e, h, 1), h, generator), torch.zeros(e, 1, 1)]
        return [_uniform((e, words, h), 1, generator), *gates, torch.zeros(e, 1, 4 * h), *ends]

    def run(self, inputs: Tensor) -> Tensor:
        embeddings, of_word, of_state, bias, last, shift = self.parameters
        read = torch.baddbmm(bias, embeddings, of_word)  # (E, words, 4 H): each word is looked up transformed
        state = memory = embeddings.new_zeros(self.members, len(inputs), self.hidden)
        for words in inputs.T:
            if not words.any():
                continue
            i, f, o, g = torch.baddbmm(read[:, words], state, of_state).chunk(4, -1)
            new = (f + 1).sigmoid() * memory + i.sigmoid() * g.tanh()
            there = (words > 0)[:, None]
            memory, state = torch.where(there, new, memory), torch.where(there, o.sigmoid() * new.tanh(), state)
        return torch.baddbmm(shift, state, last).squeeze(-1)


SURROGATES: dict[SurrogateKind, type[Surrogate]] = {"lstm": LSTMSurrogate, "mlp": MLP}


def _kind(decision: Decision) -> tuple[str, ...]:
    return ("earlier node",) if decision.is_index else decision.options


def _uniform(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> Tensor:
    return nn.init.uniform_(torch.empty(shape), -(inputs**-0.5), inputs**-0.5, generator=generator)
