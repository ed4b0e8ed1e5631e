r"""GDAS: searching for a robust architecture in four GPU hours (Dong, Yang, CVPR 2019, arXiv:1910.04465).

Every choice takes one option, drawn by :math:`\arg\max` of
:math:`p = \mathrm{softmax}((\log \mathrm{softmax}(\theta) + g) / \tau)` with Gumbel noise :math:`g`; the gradient
passes straight through to :math:`p`. Only the drawn operations run. :math:`\tau` falls linearly from 10 to 0.1.

Differs from the paper: nothing. One path of the authors' later code also adds the other gates, which are zero, as
scalars to pass gradients to them; here, as in the paper, the gradient comes through the drawn operation.
"""

from typing import Any

import torch
from pydantic import PositiveFloat

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.tasks.base import Task


class GDAS(AnnealedSearch):
    """Straight-through Gumbel-softmax, one operation a choice.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        temperature: in the first epoch.
        last_temperature: in the last epoch.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        temperature: PositiveFloat = 10.0,
        last_temperature: PositiveFloat = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        self.temperature, self.last_temperature = temperature, last_temperature

    def gates(self, generator: torch.Generator) -> Gates:
        values = {}
        for group, theta in self.theta.items():
            noise = gumbel_noise(theta.shape, generator)
            soft = gumbel_softmax(theta.log_softmax(-1), noise, self.tau)
            values[group] = straight_through(largest(soft), soft)
        return Gates.drawn(values)
