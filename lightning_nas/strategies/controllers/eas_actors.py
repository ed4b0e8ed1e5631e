"""The actors of EAS: those that make a plain network wider and deeper, and one that changes any architecture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.strategies.controllers.eas_policies import Decisions, Policy, Reading


class Growing(Policy):
    """Steps that make a network wider, then steps that make it deeper.

    A wider step decides for each layer at once: it gets the next width of its list with the probability that a shared
    linear layer and a sigmoid give. A deeper step puts in one layer: an LSTM that goes on where the encoder ended
    decides in which block, after which of its layers, and with what kernel; it reads the decision before.

    Args:
        space: of the networks.
        wider: steps of the one kind.
        deeper: steps of the other.
        embedding: size of embeddings.
        hidden: units of each direction of the encoder; the LSTM has twice as many.
    """

    def __init__(self, space: EASSpace, *, wider: int, deeper: int, embedding: int, hidden: int) -> None:
        super().__init__(space, space.vocabulary, embedding=embedding, hidden=hidden)
        self.grown, self.wider, self.deeper = space, wider, deeper
        self.widens = nn.Linear(2 * hidden, 1)
        self.lstm = nn.LSTMCell(embedding, 2 * hidden)
        options = (len(space.widths), space.longest, len(space.kernels))
        self.heads = nn.ModuleList(nn.Linear(2 * hidden, count) for count in options)
        self.embeddings = nn.ModuleList(nn.Embedding(count, embedding) for count in options[:2])

    @property
    def start(self) -> Architecture:
        """The space's."""
        return self.grown.start

    @property
    def steps(self) -> int:
        """Of both kinds."""
        return self.wider + self.deeper

    def tokens(self, architecture: Architecture) -> Sequence[Hashable]:
        """The tokens: layers and pools."""
        return self.grown.tokens(architecture)

    def step(
        self,
        number: int,
        networks: list[Architecture],
        reading: Reading,
        decisions: Decisions,
        fill: Sequence[torch.Generator],
    ) -> list[Architecture]:
        """Wider steps come first."""
        if number < self.wider:
            return self._widened(networks, reading, decisions)
        return self._deepened(networks, reading, decisions)

    def _widened(self, networks: list[Architecture], reading: Reading, decisions: Decisions) -> list[Architecture]:
        legal = torch.zeros(reading.states.shape[:2], dtype=torch.bool)
        for row, network in zip(legal, networks, strict=True):
            can = self.grown.can_widen(network)
            row[: len(can)] = torch.tensor(can)
        yes = self.widens(reading.states)
        chosen = decisions.take(torch.cat([torch.zeros_like(yes), yes], -1), legal[..., None].expand(*legal.shape, 2))
        made = []
        for network, row in zip(networks, chosen, strict=True):
            for token in row.nonzero().flatten().tolist():
                network = self.grown.widened(network, token)
            made.append(network)
        return made

    def _deepened(self, networks: list[Architecture], reading: Reading, decisions: Decisions) -> list[Architecture]:
        places = torch.tensor([self.grown.can_deepen(network) for network in networks])
        convolutions = len(self.grown.form.pools)
        read, memory = reading.last[0].new_zeros(len(networks), self.lstm.input_size), reading.last
        memory = self.lstm(read, memory)
        block = decisions.take(self.heads[0](memory[0]), places > 0)
        memory = self.lstm(self.embeddings[0](block), memory)
        count = places.gather(1, block[:, None])
        place = decisions.take(self.heads[1](memory[0]), torch.arange(self.grown.longest) < count)
        memory = self.lstm(self.embeddings[1](place), memory)
        has_kernel = (count > 0) & (block[:, None] < convolutions)
        kernel = decisions.take(self.heads[2](memory[0]), has_kernel.expand(-1, len(self.grown.kernels)))
        made = []
        for i, (network, b, p, k) in enumerate(zip(networks, block.tolist(), place.tolist(), kernel, strict=True)):
            size = self.grown.kernels[int(k)] if b < convolutions else None
            made.append(self.grown.deepened(network, b, p, size) if count[i] else network)
        return made


class Changing(Policy):
    """Steps that each change one decision of an architecture.

    Tokens are the options that were taken. A linear layer, shared, and a softmax over the encoder's states choose the
    decision; a linear layer of its set of options, and a softmax over the legal ones but the present, what it becomes.
    Later decisions that this makes illegal, or for the first time asks for, are drawn uniformly.

    Args:
        space: any.
        changes: steps of an episode.
        embedding: size of embeddings.
        hidden: units of each direction of the encoder.
    """

    def __init__(self, space: SearchSpace, *, changes: int, embedding: int, hidden: int) -> None:
        self.sets = tuple(dict.fromkeys(decision.options for decision in space.decisions))
        vocabulary = [(options, option) for options in self.sets for option in options]
        super().__init__(space, vocabulary, embedding=embedding, hidden=hidden)
        self.changes = changes
        self.which = nn.Linear(2 * hidden, 1)
        self.heads = nn.ModuleList(nn.Linear(2 * hidden, len(options)) for options in self.sets)
        self.named = {decision.name: decision for decision in space.decisions}

    @property
    def start(self) -> None:
        """Any."""
        return

    @property
    def steps(self) -> int:
        """Changes."""
        return self.changes

    def tokens(self, architecture: Architecture) -> Sequence[Hashable]:
        """Each option, with the set it is of."""
        return [(self.named[name].options, option) for name, option in architecture.choices]

    def step(
        self,
        number: int,
        networks: list[Architecture],
        reading: Reading,
        decisions: Decisions,
        fill: Sequence[torch.Generator],
    ) -> list[Architecture]:
        """Which decision, then which option."""
        others = [self._others(network) for network in networks]
        free = torch.zeros(reading.states.shape[:2], dtype=torch.bool)
        for row, each in zip(free, others, strict=True):
            row[: len(each)] = torch.tensor([bool(options) for options in each])
        places = decisions.take(self.which(reading.states)[..., 0], free)
        states = reading.states[torch.arange(len(networks)), places]
        asked = [self._asked(network, place) for network, place in zip(networks, places.tolist(), strict=True)]
        legal, logits = zip(
            *(
                self._options(decision, each[place], state)
                for decision, each, place, state in zip(asked, others, places.tolist(), states, strict=True)
            ),
            strict=True,
        )
        options = decisions.take(torch.stack(logits), torch.stack(legal)).tolist()
        return [
            self.space.complete(dict(network.choices) | {decision.name: decision.options[option]}, rng)
            if mask.any()
            else network
            for network, decision, option, mask, rng in zip(networks, asked, options, legal, fill, strict=True)
        ]

    def _others(self, network: Architecture) -> list[tuple[str, ...]]:
        """The other legal options of each decision that was taken."""
        before, found = dict[str, str](), list[tuple[str, ...]]()
        for name, taken in network.choices:
            legal = self.space.options(self.named[name], before)
            found.append(tuple(option for option in legal if option != taken))
            before[name] = taken
        return found

    def _asked(self, network: Architecture, place: int) -> Decision:
        return self.named[network.choices[place][0]]

    def _options(self, decision: Decision, legal: Sequence[str], state: Tensor) -> tuple[Tensor, Tensor]:
        """(options,) mask and logits, as many as the largest set has."""
        size = max(map(len, self.sets))
        logits: Tensor = self.heads[self.sets.index(decision.options)](state)
        padding = size - len(decision.options)
        mask = torch.tensor([option in legal for option in decision.options] + [False] * padding)
        return mask, nn.functional.pad(logits, (0, padding))
