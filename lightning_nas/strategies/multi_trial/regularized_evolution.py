"""Regularized evolution (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548).

Until P architectures are trained they are random. Then, for each, a sample of S is drawn with replacement from a
population, the best of it is copied and one thing in the copy changed; the child joins the population and its oldest
member leaves (ageing), or, without ageing, the worst of the sample does. Any trial ever made may be the answer.

A mutation changes one decision of the space, drawn uniformly. In cells of pairs, whose decisions are as many inputs as
operations, that is the paper's: half of the mutations give an element another input (hidden-state mutation), half
another operation, and ``identity`` of all copy the parent as it is.

With ``start`` the first architectures are given instead of drawn: names of the zoo or files.

Differs from the paper: there 450 workers share the population without an order; here members join in the order of
proposals unless ``ordered=false``. A child that failed is a member with the worst reward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Unpack

import torch
from annotated_types import Interval

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch, named
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial


class RegularizedEvolution(TrialSearch):
    r"""Regularized evolution: tournament selection in a population that loses its oldest member.

    .. math:: \text{parent} = \arg\max_{a \in S} R(a), \quad S \subset P, \qquad
              P \leftarrow P \cup \{\mathrm{mutate}(\text{parent})\} \setminus \{\text{oldest}\}

    The first :math:`|P|` architectures are random. A mutation changes one decision.

    Source: Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548, section 3. Deviations: members join in the order
    of proposals unless ``ordered=False``; a failed trial is a member with the worst reward.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        population: number of members, 100 in the paper.
        sample: members drawn for a tournament, 25 in the paper; 1 is a random walk.
        identity: share of the children that are copies of their parents.
        ageing: remove the oldest member; False removes the worst of the sample.
        start: the first members, names of the zoo or files; the others are drawn.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: fewer trials than members, or more members to start with.
        InvalidArchitecture: a start that is not of the space, or is not found.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = RegularizedEvolution(ToySpace(), trials=4, child=Child(epochs=1), population=2, sample=2)
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
        population: Count = 10,
        sample: Count = 3,
        identity: Annotated[float, Interval(ge=0, lt=1)] = 0.05,
        ageing: bool = True,
        start: Sequence[str] = (),
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        if population > self.count:
            raise ConfigError(f"strategy.population={population}: only {self.count} trials; legal: at most as many")
        if len(start) > population:
            raise ConfigError(f"strategy.start: {len(start)} architectures; legal: at most population={population}")
        self.start = [named(name, space) for name in start]
        self.size, self.sample, self.identity, self.ageing = population, sample, identity, ageing
        self.population = deque[int]()  # places in the history, the oldest first
        self._leaving: dict[int, int] = {}  # without ageing: who leaves for the child of a trial

    @property
    def blind(self) -> int:
        """The random population of the beginning."""
        return self.size

    @property
    def most_begun_with(self) -> int:
        """The first members that are not given."""
        return self.size - len(self.start)

    def propose(self, number: int) -> Proposal | Architecture:
        if number < len(self.start):
            return self.start[number]
        rng = self.rng("propose", number)
        if len(self.population) < self.size:
            return self.beginning(number - len(self.start), rng)
        drawn = torch.randint(len(self.population), (self.sample,), generator=rng).tolist()
        competing = [self.population[place] for place in drawn]
        parent = max(competing, key=lambda place: self.history[place][1])
        if not self.ageing:
            self._leaving[number] = min(competing, key=lambda place: self.history[place][1])
        mother = self.history[parent][0]
        copied = self.identity and torch.rand((), generator=rng).item() < self.identity
        child = mother.architecture if copied else self.space.mutate(mother.architecture, rng)
        return Proposal(child, {"parent": mother.number})

    def learn(self, trial: Trial, reward: float) -> None:
        self.population.append(len(self.history) - 1)
        if len(self.population) > self.size:
            leaving = self._leaving.pop(trial.number, None)
            if self.ageing or leaving is None:
                self.population.popleft()
            elif leaving in self.population:
                self.population.remove(leaving)
            else:  # it left for another child that was open at the same time
                self.population.remove(min(self.population, key=lambda place: self.history[place][1]))

    def log_search(self) -> None:
        members = [self.history[place] for place in self.population]
        now = len(self.history)
        self.log_batch("population/age", sum(now - 1 - place for place in self.population) / len(members))
        self.log_batch("population/reward", sum(reward for _, reward in members) / len(members))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``population``: each member's age, in trials since it was born, and reward."""
        members = [(place, *self.history[place]) for place in self.population]
        age = len(self.history) - 1
        return {
            "population": [
                {"trial": trial.number, "age": age - place, "reward": reward, "choices": str(trial.architecture)}
                for place, trial, reward in members
            ]
        }

    def state(self) -> dict[str, Any]:
        own = {"population": list(self.population), "leaving": self._leaving}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        leaving = dict(state["leaving"])
        self.population = deque(self.places(state["population"]))
        self._leaving = dict(zip(leaving, self.places(list(leaving.values())), strict=True))
