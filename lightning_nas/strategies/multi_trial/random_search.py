"""Random search, the baseline of Li and Talwalkar (UAI 2019, arXiv:1902.07638): every trial is drawn from the space.

What came of those before does not matter. With shared weights it is :mod:`lightning_nas.strategies.one_path.random_ws`.

Differs from the paper: theirs ends children by asynchronous successive halving; here ``median_stop`` may end them.
"""

from __future__ import annotations

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.multi_trial.base import TrialSearch


class RandomSearch(TrialSearch):
    """Draws each decision uniformly from its legal options; the answer is the best.

    It takes the options of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.
    """

    def propose(self, number: int) -> Architecture:
        return self.space.sample(self.rng("propose", number))
