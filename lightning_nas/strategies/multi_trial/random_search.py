"""Random search, the baseline of Li and Talwalkar (UAI 2019, arXiv:1902.07638): every trial is drawn from the space.

What came of those before does not matter, unless ``explore`` asks for trials near the best so far, as the search for
dense prediction cells has them (Chen et al., NeurIPS 2018, arXiv:1809.04184, section 3.2; Vizier's random search). With
shared weights it is :mod:`lightning_nas.strategies.one_path.random_ws`.

Differs from the paper: theirs ends children by asynchronous successive halving; here ``median_stop`` may end them. The
paper of dense prediction cells does not say how near a trial is; here it differs in one decision from one of the
``near`` best.
"""

from __future__ import annotations

import heapq
from typing import Annotated, Unpack

import torch
from annotated_types import Interval

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal


class RandomSearch(TrialSearch):
    r"""Random search: the best of independently drawn architectures.

    .. math:: a^* = \arg\max_{a \in \{a_1, \dots, a_n\}} R(a), \qquad a_k \sim U

    Each decision is drawn uniformly from its legal options. With ``explore`` above 0, each trial is with that
    probability an architecture near the best so far instead: one of the ``near`` best, drawn uniformly, with one
    decision changed.

    Source: Li and Talwalkar, UAI 2019, arXiv:1902.07638, section 3.1; exploration near the best: Chen et al., NeurIPS
    2018, arXiv:1809.04184, section 3.2. Deviations: the first paper ends trials early by asynchronous successive
    halving, here ``median_stop`` may end them; the second does not say what is near.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        explore: probability that a trial is drawn near the best so far; 0 draws all from the whole space.
        near: number of best trials that such a trial may begin with.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = RandomSearch(ToySpace(), trials=4, explore=0.5, child=Child(epochs=1))
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
        explore: Annotated[float, Interval(ge=0, le=1)] = 0.0,
        near: Count = 5,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        self.explore, self.near = explore, near

    @property
    def blind(self) -> int:
        """The first trial, where the search explores."""
        return 1 if self.explore else 0

    def propose(self, number: int) -> Proposal | Architecture:
        if self.explore and number >= len(self.warm):
            rng = self.rng("explore", number)
            best = self._best_so_far()
            if best and float(torch.rand((), generator=rng)) < self.explore:
                trial = self.history[best[int(torch.randint(len(best), (), generator=rng))]][0]
                return Proposal(self.space.mutate(trial.architecture, rng), {"near": trial.number})
        return self.beginning(number, self.rng("propose", number))

    def _best_so_far(self) -> list[int]:
        """Places in the history of the best trials that did not fail; of equal ones the earliest."""
        rewards = self.rewards
        places = heapq.nsmallest(self.near, range(len(rewards)), key=lambda place: (-rewards[place], place))
        return [place for place in places if not self.history[place][0].failed]
