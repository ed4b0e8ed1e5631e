"""Random search: every trial is drawn from the space, whatever came of those before. The baseline."""

from __future__ import annotations

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.trials.base import TrialSearch


class RandomSearch(TrialSearch):
    """Draws each decision uniformly from its legal options; the answer is the best.

    It takes the options of :class:`~lightning_nas.strategies.trials.base.TrialSearch`.
    """

    def propose(self, number: int) -> Architecture:
        return self.space.sample(self.rng("propose", number))
