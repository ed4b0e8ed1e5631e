"""Random search, the baseline of Li and Talwalkar (UAI 2019, arXiv:1902.07638): every trial is drawn from the space.

What came of those before does not matter. With shared weights it is :mod:`lightning_nas.strategies.one_path.random_ws`.

Differs from the paper: theirs ends children by asynchronous successive halving; here ``median_stop`` may end them.
"""

from __future__ import annotations

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.multi_trial.base import TrialSearch


class RandomSearch(TrialSearch):
    r"""Random search: the best of independently drawn architectures.

    .. math:: a^* = \arg\max_{a \in \{a_1, \dots, a_n\}} R(a), \qquad a_k \sim U

    Each decision is drawn uniformly from its legal options. The arguments are those of
    :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Source: Li and Talwalkar, UAI 2019, arXiv:1902.07638, section 3.1. Deviations: the paper ends trials early by
    asynchronous successive halving, here ``median_stop`` may end them.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = RandomSearch(ToySpace(), trials=4, child=Child(epochs=1))
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    def propose(self, number: int) -> Architecture:
        return self.beginning(number, self.rng("propose", number))
