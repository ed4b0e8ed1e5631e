"""Policy of EAS: an encoder that reads a network, and actors that decide how to change it.

An episode takes a batch of B networks through a number of steps. Before each the encoder reads them anew.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import drawn_options

Choose = Callable[[Tensor, Tensor], Tensor]
"""Maps (B, ..., options) log-probabilities and the (B, ...) mask of decisions to (B, ...) options."""


def drawing(generator: torch.Generator) -> Choose:
    """Draw options at random."""

    def choose(logs: Tensor, asked: Tensor) -> Tensor:
        return drawn_options(logs.exp().flatten(0, -2), generator).view(asked.shape)

    return choose


def repeating(known: Sequence[Sequence[int]]) -> Choose:
    """Repeat earlier choices, in the order of :attr:`Walked.chosen` for each network."""
    queues = [iter(row) for row in known]

    def choose(logs: Tensor, asked: Tensor) -> Tensor:
        rows = asked.flatten(1) if asked.dim() > 1 else asked[:, None]
        chosen = torch.zeros(rows.shape, dtype=torch.long)
        for row, queue, mask in zip(chosen, queues, rows, strict=True):
            row[mask] = torch.tensor(list(islice(queue, int(mask.sum()))), dtype=torch.long)
        return chosen.view(asked.shape)

    return choose


class Decisions:
    """The decisions on B networks, one after another; networks do not depend on each other.

    Args:
        count: B.
        choose: takes them.

    Attributes:
        log_probabilities: (B,), summed, differentiable.
        entropies: (B,), summed, in nats, differentiable.
        chosen: of each network what was decided, in order.
    """

    def __init__(self, count: int, choose: Choose) -> None:
        self.choose = choose
        self.log_probabilities, self.entropies = torch.zeros(count), torch.zeros(count)
        self.chosen: list[list[int]] = [[] for _ in range(count)]

    def take(self, logits: Tensor, legal: Tensor) -> Tensor:
        """Choose (B, ...) options; 0 where no option is legal, which adds nothing to the log-probability.

        Args:
            logits: (B, ..., options).
            legal: the same shape; the other options cannot be chosen.
        """
        asked = legal.any(-1)
        logs = logits.masked_fill(~legal & asked[..., None], float("-inf")).log_softmax(-1)
        chosen = self.choose(logs.detach(), asked).where(asked, 0)
        taken = logs.gather(-1, chosen[..., None])[..., 0].where(asked, 0)
        unsure = -(logs.exp() * logs.masked_fill(~legal, 0)).sum(-1)
        count = len(self.chosen)
        self.log_probabilities = self.log_probabilities + taken.view(count, -1).sum(1)
        self.entropies = self.entropies + unsure.view(count, -1).sum(1)
        for row, options, mask in zip(self.chosen, chosen.view(count, -1), asked.view(count, -1), strict=True):
            row += options[mask].tolist()
        return chosen


@dataclass(frozen=True)
class Reading:
    """Output of the encoder for B networks of up to T tokens.

    Attributes:
        states: (B, T, 2 hidden) at each token, of both directions.
        last: (B, 2 hidden) each, what each direction ended with: state and cell.
    """

    states: Tensor
    last: tuple[Tensor, Tensor]


class Encoder(nn.Module):
    """A bidirectional LSTM over the tokens of a network.

    Args:
        vocabulary: all tokens there are.
        embedding: size of their embeddings, uniform in plus and minus the root of 3.
        hidden: units of each direction.
    """

    def __init__(self, vocabulary: Sequence[Hashable], *, embedding: int, hidden: int) -> None:
        super().__init__()
        self.numbers = {token: number for number, token in enumerate(vocabulary)}
        self.embedding = nn.Embedding(len(self.numbers), embedding)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True, bidirectional=True)

    def forward(self, networks: Sequence[Sequence[Hashable]]) -> Reading:
        """Read networks of any lengths."""
        numbers = [torch.tensor([self.numbers[token] for token in tokens]) for tokens in networks]
        embedded = self.embedding(pad_sequence(numbers, batch_first=True))
        lengths = [len(tokens) for tokens in networks]
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, (state, cell) = self.lstm(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True)
        return Reading(padded, (state.transpose(0, 1).flatten(1), cell.transpose(0, 1).flatten(1)))


@dataclass(frozen=True)
class Walked:
    """B networks after an episode.

    Attributes:
        architectures: at the end.
        log_probabilities: (B,) of all that was decided, differentiable.
        entropies: (B,), the mean of a decision, differentiable.
        chosen: of each network what was decided, in order.
    """

    architectures: list[Architecture]
    log_probabilities: Tensor
    entropies: Tensor
    chosen: list[list[int]]


class Policy(nn.Module, ABC):
    """An encoder, and the steps of an episode.

    Args:
        space: of the networks.
        vocabulary: all tokens there are.
        embedding: size of embeddings.
        hidden: units of each direction of the encoder.
    """

    def __init__(self, space: SearchSpace, vocabulary: Sequence[Hashable], *, embedding: int, hidden: int) -> None:
        super().__init__()
        self.space, self.encoder = space, Encoder(vocabulary, embedding=embedding, hidden=hidden)

    @property
    @abstractmethod
    def start(self) -> Architecture | None:
        """The network that a search starts with; None for a random one."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Number of steps of an episode."""

    @abstractmethod
    def tokens(self, architecture: Architecture) -> Sequence[Hashable]:
        """A network as the encoder reads it."""

    @abstractmethod
    def step(
        self,
        number: int,
        networks: list[Architecture],
        reading: Reading,
        decisions: Decisions,
        fill: Sequence[torch.Generator],
    ) -> list[Architecture]:
        """Change the networks by one step; see :meth:`forward`."""

    def forward(self, networks: Sequence[Architecture], choose: Choose, fill: Sequence[torch.Generator]) -> Walked:
        """One episode.

        Args:
            networks: B of them.
            choose: takes the decisions.
            fill: a generator for each network, of what is not the policy's to decide.
        """
        now, decisions = list(networks), Decisions(len(networks), choose)
        for number in range(self.steps):
            reading = self.encoder([self.tokens(network) for network in now])
            now = self.step(number, now, reading, decisions, fill)
        counts = torch.tensor([max(1, len(row)) for row in decisions.chosen])
        return Walked(now, decisions.log_probabilities, decisions.entropies / counts, decisions.chosen)
