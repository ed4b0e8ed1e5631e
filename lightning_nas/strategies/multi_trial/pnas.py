"""PNAS, progressive search with a surrogate (Liu et al., ECCV 2018, arXiv:1712.00559).

Architectures grow. All of one block are trained; a surrogate is fitted to what came of them, the trained ones are
expanded by every block that may come next, those of which the surrogate thinks most, K at most, are trained, the
surrogate is fitted again to all results so far, and so on to B blocks. Each trial is told its ``level`` and what was
``predicted`` of it; Spearman's correlation of the predictions of a level with its rewards is logged when the level is
over. The surrogates are in :mod:`lightning_nas.strategies.surrogate`.

On a space whose architectures do not grow (no ``expansions``) decisions are settled instead, part after part: of random
architectures the K best of all so far are given every choice of the first part of the decisions, the rest staying as it
is (of more than 512 choices, 512 are drawn), the surrogate ranks them and K are trained; then those of the second
part, and after the last again the first, for as many trials as there are.

Differs from the paper: the surrogate is fitted anew at each level, to standardised squared errors instead of
accuracies, on all the data at each step, and no architecture is trained twice. The first level may be a random share of
all cells of one block (``first``). With more trials than B levels ask for, a search on PNAS' space ends early. A child
that failed counts as the worst of those that did not, and is not expanded.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Unpack, runtime_checkable

import torch
from pydantic import PositiveFloat

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.functional.ranking import spearman
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count, Width
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.strategies.surrogate import SURROGATES, SurrogateKind
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial

_CHOICES = 512  # most combinations of options of a part, for each architecture
_PARTS = 5


@runtime_checkable
class Expandable(Protocol):
    """A search space whose architectures grow."""

    def expansions(self, architecture: Architecture | None = None) -> list[Architecture]:
        """The architectures one step larger than this one; without one, the smallest."""


class PNAS(TrialSearch):
    r"""Progressive search with a surrogate (PNAS).

    .. math:: S_{b+1} = \mathrm{top}_K \, \{ \hat{R}(a') : a' \in \mathrm{expand}(S_b) \}, \qquad
              \hat{R} = \arg\min_f \sum_{a \in S_1 \cup \dots \cup S_b} (f(a) - R(a))^2

    On spaces whose architectures do not grow, parts of the decisions are settled one after another instead.

    Source: Liu et al., ECCV 2018, arXiv:1712.00559, section 4. Deviations: each level fits a new surrogate to
    standardised rewards; no architecture is trained twice.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        beam: architectures trained on each level but the first, K; 256 in the paper.
        first: architectures drawn for the first level; None for all of the smallest, or K where architectures do not
            grow.
        levels: steps of growth, or parts of the decisions; None for as many as possible, or 5 parts.
        predictor: the surrogate, "mlp" or "lstm".
        ensemble: members of the surrogate, each fitted without another 1 / ensemble of the data.
        hidden: size of its states and layers.
        steps: optimisation steps of its fit.
        lr: learning rate of its fit.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Attributes:
        quality: (level, Spearman's correlation) of each finished level with predictions.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = PNAS(ToySpace(), trials=4, child=Child(epochs=1), beam=2, first=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        beam: Count = 10,
        first: Count | None = 10,
        levels: Count | None = None,
        predictor: SurrogateKind = "mlp",
        ensemble: Count = 5,
        hidden: Width = 32,
        steps: Count = 100,
        lr: PositiveFloat = 0.01,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.beam, self.first, self.levels, self.steps, self.lr = beam, first, levels, steps, lr
        decisions = space.decisions
        if isinstance(space, Expandable):  # how long an architecture is, is known and says nothing new
            decisions = tuple(decision for decision in decisions if decision.node is not None)
        self.surrogate = SURROGATES[predictor](decisions, ensemble, hidden)
        self.parts = _parts(space.decisions, levels or _PARTS)
        self.level = 0
        self.quality: list[tuple[int, float]] = []
        self._queue = deque[tuple[Architecture, float | None]]()  # and the predicted reward
        self._ends = 0  # number of trials when the level is over

    @property
    def most_begun_with(self) -> int:
        """The first level; architectures that grow begin with the smallest."""
        return 0 if isinstance(self.space, Expandable) else self.first or self.beam

    @property
    def blind(self) -> int:
        """The architectures of the first level."""
        if not isinstance(self.space, Expandable):
            return self.first or self.beam
        smallest = len(self.space.expansions())
        return min(self.first or smallest, smallest)

    def propose(self, number: int) -> Proposal | None:
        if not self._queue:
            if len(self.history) < number:
                return None
            self._begin(number)
        if not self._queue:
            return None
        architecture, predicted = self._queue.popleft()
        return Proposal(architecture, {"level": self.level, "predicted": predicted})

    def learn(self, trial: Trial, reward: float) -> None:
        if len(self.history) == self._ends:
            self._judge()

    # -- levels -------------------------------------------------------------------------------------------------

    def _begin(self, number: int) -> None:
        """Fill the queue for the next level that has something new."""
        tried = {self.space.canonical(trial.architecture) for trial, _ in self.history}
        for _ in range(len(self.parts) + 1):
            if isinstance(self.space, Expandable) and self.level == self.levels:
                return
            self.level += 1
            rng = self.rng("level", number)
            found = self._smallest(rng) if self.level == 1 else self._grown(rng)
            if new := [architecture for architecture in dict.fromkeys(found) if architecture not in tried]:
                ranked = [(each, None) for each in new] if self.level == 1 else self._ranked(new, rng)
                self._queue.extend(ranked[: self.count - number])
                self._ends = number + len(self._queue)
                return

    def _smallest(self, rng: torch.Generator) -> list[Architecture]:
        if not isinstance(self.space, Expandable):
            return self.beginnings(self.first or self.beam, rng)
        found = self.space.expansions()
        order = torch.randperm(len(found), generator=rng).tolist() if self.first else range(len(found))
        return [found[place] for place in order][: self.first]

    def _grown(self, rng: torch.Generator) -> Iterator[Architecture]:
        """All candidates of a level that follow from the trials so far."""
        known = [(trial, reward) for trial, reward in self.history if not trial.failed]
        if isinstance(self.space, Expandable):
            for trial, _ in known:
                if trial.info["level"] == self.level - 1:
                    yield from self.space.expansions(trial.architecture)
            return
        if not known:
            yield from self.space.different(self.beam, rng)
        part = self.parts[(self.level - 2) % len(self.parts)]
        for trial, _ in sorted(known, key=lambda pair: -pair[1])[: self.beam]:
            for choices in _choices(part, rng):
                yield self.space.canonical(self.space.complete(dict(trial.architecture.choices) | choices, rng))

    def _ranked(self, found: list[Architecture], rng: torch.Generator) -> list[tuple[Architecture, float | None]]:
        """The beam: the best candidates by the surrogate, or random ones where all rewards are equal."""
        worst = min((reward for trial, reward in self.history if not trial.failed), default=0.0)
        rewards = [max(reward, worst) for _, reward in self.history]
        if len(set(rewards)) == 1:
            drawn = torch.randperm(len(found), generator=rng).tolist()
            return [(found[place], None) for place in drawn[: self.beam]]
        trained = [trial.architecture for trial, _ in self.history]
        self.surrogate.fit(trained, rewards, rng, steps=self.steps, lr=self.lr)
        predicted = self.surrogate.predict(found)
        best = predicted.argsort(descending=True, stable=True)[: self.beam].tolist()
        return [(found[place], predicted[place].item()) for place in best]

    def _judge(self) -> None:
        """Compare the predictions of the finished level with its rewards."""
        level = [(trial, reward) for trial, reward in self.history if trial.info["level"] == self.level]
        pairs = [(trial.info["predicted"], reward) for trial, reward in level if not trial.failed]
        if len(pairs) > 1 and pairs[0][0] is not None:
            predicted, rewards = torch.tensor(pairs, dtype=torch.float64).T
            if math.isfinite(agreement := spearman(predicted, rewards).item()):
                self.quality.append((self.level, agreement))

    # -- what is kept -------------------------------------------------------------------------------------------

    def log_search(self) -> None:
        self.log_batch("surrogate/level", self.level)
        if self.quality:
            self.log_batch("surrogate/spearman", self.quality[-1][1])

    def state(self) -> dict[str, Any]:
        queue = [(architecture.to_dict(), predicted) for architecture, predicted in self._queue]
        own = {"level": self.level, "quality": self.quality, "queue": queue, "ends": self._ends}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.level, self.quality, self._ends = state["level"], list(state["quality"]), state["ends"]
        self._queue = deque((Architecture.from_dict(content), predicted) for content, predicted in state["queue"])


def _parts(decisions: Sequence[Decision], count: int) -> list[tuple[Decision, ...]]:
    """Split the decisions into ``count`` parts of equal size; the last may be smaller."""
    size = -(-len(decisions) // count)
    return [tuple(decisions[start : start + size]) for start in range(0, len(decisions), size)]


def _choices(part: Sequence[Decision], rng: torch.Generator) -> Iterator[dict[str, str]]:
    """All combinations of options of a part, or ``_CHOICES`` random ones."""
    names, options = [decision.name for decision in part], [decision.options for decision in part]
    if math.prod(map(len, options)) <= _CHOICES:
        ways: Iterator[tuple[str, ...]] = itertools.product(*options)
    else:
        rows = torch.stack([torch.randint(len(each), (_CHOICES,), generator=rng) for each in options], 1).tolist()
        ways = (tuple(each[i] for each, i in zip(options, row, strict=True)) for row in rows)
    for way in ways:
        yield dict(zip(names, way, strict=True))
