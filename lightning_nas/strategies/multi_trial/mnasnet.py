r"""MnasNet's search (Tan et al., CVPR 2019, arXiv:1807.11626).

The controller and the proximal policy optimisation of NASNet, with a reward that trades accuracy for latency:

.. math:: R(m) = \mathrm{ACC}(m) \cdot (\mathrm{LAT}(m) / T)^w, \qquad
          w = \alpha \text{ if } \mathrm{LAT}(m) \le T \text{ else } \beta

with :math:`\alpha = \beta = -0.07` (soft: all that is on the Pareto front is worth about the same) or
:math:`\alpha = 0, \beta = -1` (hard: only what is beyond the target pays; ``strategy/penalty=mnasnet_hard``). The
target T is a cost of the latency table, by default that of an architecture drawn uniformly, on average.

Differs from the paper: latencies are the sum of a table's operations instead of measured on a phone one model at a
time. NASNet's differences are here too: the clip, the number of steps on a minibatch and the ratio are ours, the
baseline begins with the first rewards, and a child that failed has the reward 0; the answer is the best of all, where
the paper trains the top 15 in full. In the controller, whose sizes the paper does not tell, decisions with the same
options share a softmax and an embedding.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Unpack

from annotated_types import Interval
from pydantic import NonNegativeFloat

from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.options import PolicyOptions
from lightning_nas.strategies.penalties import Costs, MnasNetProduct
from lightning_nas.strategies.usual import measured_here
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Trial

_DRAWN = 200  # architectures whose mean cost is the default target


class NASNetOptions(PolicyOptions, total=False):
    """Options of :class:`~lightning_nas.strategies.multi_trial.nasnet.NASNet`."""

    update: Literal["ppo", "reinforce", "random"]
    clip: Annotated[float, Interval(gt=0, lt=1)]
    steps: Count
    entropy_weight: NonNegativeFloat


class MnasNet(NASNet):
    r"""Search for accuracy and latency by proximal policy optimisation (MnasNet).

    .. math:: R(m) = \mathrm{ACC}(m) \cdot (\mathrm{LAT}(m) / T)^w, \qquad
              w = \alpha \text{ if } \mathrm{LAT}(m) \le T \text{ else } \beta

    Source: Tan et al., CVPR 2019, arXiv:1807.11626, sections 3 and 4. Deviations: latencies are sums of a table, not
    measured one model at a time; the answer is the best of all trials.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation. None measures the operations on this machine, which takes seconds and differs a
            little every time.
        penalty: target T and exponents; None for -0.07 twice and the mean cost of random architectures.
        options: of :class:`~lightning_nas.strategies.multi_trial.nasnet.NASNet`.

    Raises:
        ConfigError: a penalty that is not a reward.
        LatencyTableError: the table lacks an operation, or gives costs of 0, which have no reward.

    Example:
        >>> from lightning_nas.latency.sources import Macs
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = MnasNet(ToySpace(), trials=4, child=Child(epochs=1), children=2, table=Macs()(ToySpace()))
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    defaults: ClassVar[PolicyOptions] = {"trials": 40}

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        penalty: MnasNetProduct | None = MnasNetProduct(),
        **options: Unpack[NASNetOptions],
    ) -> None:
        if table is None:
            table = measured_here(space)
        super().__init__(space, task, table, **MnasNet.defaults | options)
        self.penalty = penalty or MnasNetProduct()
        if not isinstance(self.penalty, MnasNetProduct):
            raise ConfigError("strategy=mnasnet has a reward: strategy/penalty=mnasnet or mnasnet_hard")
        self.costs = Costs.drawn(space, table, _DRAWN, self.rng("costs", 0))
        self.penalty.bind(self.costs)  # refuses costs that have no reward

    def reward(self, trial: Trial) -> float:
        """Accuracy, traded off against the cost."""
        cost = self.cost(trial.architecture)
        assert cost is not None
        return self.penalty.reward(super().reward(trial), cost, self.costs)
