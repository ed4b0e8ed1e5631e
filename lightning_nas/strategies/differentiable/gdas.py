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

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.strategies.options import DifferentiableOptions, Temperature
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
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = GDAS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        temperature: Temperature = 10.0,
        last_temperature: Temperature = 0.1,
        **options: Unpack[DifferentiableOptions],
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
