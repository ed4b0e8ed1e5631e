r"""GDAS: searching for a robust architecture in four GPU hours (Dong, Yang, CVPR 2019, arXiv:1910.04465).

Every choice takes one option, drawn by :math:`\arg\max` of
:math:`p = \mathrm{softmax}((\log \mathrm{softmax}(\theta) + g) / \tau)` with Gumbel noise :math:`g`; the gradient
passes straight through to :math:`p`. Only the drawn operations run. :math:`\tau` falls linearly from 10 to 0.1.

Differs from the paper: nothing. One path of the authors' later code also adds the other gates, which are zero, as
scalars to pass gradients to them; here, as in the paper, the gradient comes through the drawn operation. In that code
convolutions of the supernet have a bias where batch norm has none; batch norm subtracts it, so it is left out here.
"""

from typing import Unpack

import torch

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, reinmax, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch, Estimator, check_estimator, drawn_gates
from lightning_nas.strategies.options import SoftmaxOptions, Temperature
from lightning_nas.tasks.base import Task


class GDAS(AnnealedSearch):
    r"""Differentiable search with one sampled operation for each choice (GDAS).

    .. math:: p = \mathrm{softmax}\big((\log \mathrm{softmax}(\theta) + g) / \tau\big), \qquad
              h = \mathrm{onehot}(\arg\max p) - \mathrm{stopgrad}(p) + p

    with logits :math:`\theta` (choices, options) and Gumbel noise :math:`g`. Only the sampled operations run; their
    gradient passes straight through to :math:`p`. :math:`\tau` falls linearly over the epochs.

    Source: Dong and Yang, CVPR 2019, arXiv:1910.04465, section 3.2. Deviations: none.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        temperature: in the first epoch.
        last_temperature: in the last epoch.
        estimator: gradient of the sampled gates, "straight_through" as in the paper, or "reinmax", see
            :func:`~lightning_nas.functional.relaxation.reinmax`: of the second order, at temperatures from 1 on. It
            needs the gradient of every gate, so that all operations run in architecture steps.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: "reinmax" with a temperature below 1.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = GDAS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    drawn_a_step: int | None = 1

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        temperature: Temperature = 10.0,
        last_temperature: Temperature = 0.1,
        estimator: Estimator = "straight_through",
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        check_estimator(estimator, temperature, last_temperature)
        super().__init__(space, task, table, **options)
        self.temperature, self.last_temperature, self.estimator = temperature, last_temperature, estimator

    def gates(self, generator: torch.Generator) -> Gates:
        values = {}
        for group, theta in self.theta.items():
            noise = gumbel_noise(theta.shape, generator)
            soft = gumbel_softmax(theta.log_softmax(-1), noise, self.tau)
            one = largest(soft)
            exact = self.estimator == "reinmax"
            values[group] = reinmax(theta, one, self.tau) if exact else straight_through(one, soft)
        return drawn_gates(values, self.estimator)
