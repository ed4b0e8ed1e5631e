"""Local search (White, Nolen and Savani, UAI 2021, arXiv:2005.02960).

From a random architecture, the neighbours (those that differ in one decision) are trained in a random order until one
is better; the search goes on from there. When no neighbour is better it begins again at another random architecture.

Differs from the paper: of the paper's variants this is the one that follows the first better neighbour
(``query_until_lower``). Neighbours that were trained before are not trained again; the best of them, if it is better,
is followed without a trial. With several proposals open at a time a late result that is better is followed too. A child
that failed has the worst reward.
"""

from __future__ import annotations

from typing import Any, Unpack

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial


class LocalSearch(TrialSearch):
    r"""Local search: go to a neighbour that is better, and begin again where there is none.

    .. math:: a \leftarrow a' \quad \text{for the first } a' \in N(a) \text{ with } R(a') > R(a)

    :math:`N(a)` holds the architectures that differ from :math:`a` in one decision, in a random order.

    Source: White, Nolen and Savani, UAI 2021, arXiv:2005.02960, algorithm 1 with the variant ``query_until_lower`` of
    section 4: a better neighbour is followed at once. Deviations: neighbours that were trained before are not trained
    again, and the best of them is followed without a trial; with several proposals open at a time, a late result that
    is better is followed too; a failed trial has the worst reward.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = LocalSearch(ToySpace(), trials=4, child=Child(epochs=1))
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.centre: int | None = None  # place in the history of the architecture that the search stands at
        self.starts = 0
        self._queue: list[Architecture] = []  # neighbours of the centre that are still to be tried, the next one last

    @property
    def blind(self) -> int:
        """The random start."""
        return 1

    def propose(self, number: int) -> Proposal | None:
        if self._queue:
            assert self.centre is not None
            return Proposal(self._queue.pop(), {"centre": self.history[self.centre][0].number})
        if number > len(self.history):
            return None  # a result that is still to come may be better
        self.centre = None
        self.starts += 1
        return Proposal(self.beginning(self.starts - 1, self.rng("start", number)), {"start": self.starts})

    def learn(self, trial: Trial, reward: float) -> None:
        place = len(self.history) - 1
        if self.centre is None or reward > self.history[self.centre][1]:
            self._go_to(place)

    def _go_to(self, place: int) -> None:
        """Stand at a trial, or at the best known neighbour that is better, and so on; queue the unknown neighbours."""
        while True:
            self.centre = place
            trial, reward = self.history[place]
            rng = self.rng("neighbours", trial.number)
            around = {self.space.canonical(a): a for a in self.space.neighbours(trial.architecture, rng)}
            known = {form: other for form in around if (other := self.book.place(form)) is not None}
            place = max(known.values(), key=lambda other: self.history[other][1], default=place)
            if self.history[place][1] <= reward:
                break
        unknown = [architecture for form, architecture in around.items() if form not in known]
        self._queue = [unknown[drawn] for drawn in torch.randperm(len(unknown), generator=rng).tolist()]

    def log_search(self) -> None:
        if self.centre is not None:
            self.log_batch("local/reward", self.history[self.centre][1])
            self.log_batch("local/starts", float(self.starts))

    def state(self) -> dict[str, Any]:
        queue = [dict(architecture.choices) for architecture in self._queue]
        return {**super().state(), "centre": self.centre, "starts": self.starts, "queue": queue}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        centre = state["centre"]
        self.centre, self.starts = None if centre is None else self.places([centre])[0], state["starts"]
        self._queue = [self.space.validate(choices) for choices in state["queue"]]
