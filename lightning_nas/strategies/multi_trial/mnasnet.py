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

from typing import Any

from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.penalties import Costs, MnasNetProduct
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Trial

_DRAWN = 200  # architectures whose mean cost is the target unless one is given


class MnasNet(NASNet):
    """Proximal policy optimisation of accuracy and cost.

    Args:
        space: any.
        task: what the networks are for.
        table: what each operation costs.
        penalty: target and exponents.
        options: of :class:`~lightning_nas.strategies.multi_trial.nasnet.NASNet`.

    Raises:
        ConfigError: no table, or a penalty that is no reward.
        LatencyTableError: the table lacks an operation.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        penalty: MnasNetProduct | None = None,
        **options: Any,
    ) -> None:
        if table is None:
            raise ConfigError("strategy=mnasnet needs a latency table: latency_table=measured, macs, params or file")
        super().__init__(space, task, table, **options)
        self.penalty = penalty or MnasNetProduct()
        if not isinstance(self.penalty, MnasNetProduct):
            raise ConfigError("strategy=mnasnet has a reward: strategy/penalty=mnasnet or mnasnet_hard")
        self.costs = Costs.drawn(space, table, _DRAWN, self.rng("costs", 0))

    def reward(self, trial: Trial) -> float:
        """Accuracy, traded for the cost."""
        cost = self.cost(trial.architecture)
        assert cost is not None
        return self.penalty.reward(super().reward(trial), cost, self.costs)
