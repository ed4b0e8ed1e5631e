r"""SNAS: stochastic neural architecture search (Xie, Zheng, Liu, Lin, ICLR 2019, arXiv:1812.09926).

Every choice mixes its options by a concrete sample :math:`Z = \mathrm{softmax}((\theta + g) / \lambda)` with Gumbel
noise :math:`g`, one sample a batch. Weights and :math:`\theta` are trained *together*: one loss, one backward pass, no
part of the data held out. :math:`\lambda` falls linearly from 1 to 0.03.

Differs from the paper: the batches of both training parts are trained on, in turn; the paper's resource constraint is
``strategy.penalty``.
"""

from typing import Unpack

import torch
from torch import Tensor

from lightning_nas.errors import ConfigError
from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, reinmax, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch, Estimator, check_estimator, drawn_gates
from lightning_nas.strategies.options import SoftmaxOptions, Temperature
from lightning_nas.tasks.base import Batch, Task


class SNAS(AnnealedSearch):
    r"""Differentiable search with concrete samples, weights and architecture in one step (SNAS).

    .. math:: Z = \mathrm{softmax}\big((\theta + g) / \lambda\big), \qquad
              \min_{w, \theta} \mathbb{E}_{Z}\big[L(w, Z)\big]

    with logits :math:`\theta` (choices, options) and Gumbel noise :math:`g`, one sample a batch. Weights and logits are
    trained on the same loss, with no part of the data held out. :math:`\lambda` falls linearly over the epochs.

    Source: Xie, Zheng, Liu and Lin, ICLR 2019, arXiv:1812.09926, section 2. Deviations: both training parts are used in
    turn; the resource constraint of the paper is ``penalty``.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        temperature: in the first epoch.
        last_temperature: in the last epoch.
        estimator: gradient of "hard" samples, "straight_through", or "reinmax", see
            :func:`~lightning_nas.functional.relaxation.reinmax`: of the second order, at temperatures from 1 on. It
            needs the gradient of every gate, so that all operations run.
        hard: run only the largest option of each sample, with a straight-through gradient.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Raises:
        ConfigError: "reinmax" without ``hard``, or with a temperature below 1.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = SNAS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 8, 'architecture': 8}, 'toy')
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        temperature: Temperature = 1.0,
        last_temperature: Temperature = 0.03,
        hard: bool = False,
        estimator: Estimator = "straight_through",
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        check_estimator(estimator, temperature, last_temperature)
        if estimator == "reinmax" and not hard:
            raise ConfigError("strategy.estimator=reinmax is a gradient of one-hot samples: set strategy.hard=true")
        super().__init__(space, task, table, **options)
        self.estimator = estimator
        self.temperature, self.last_temperature, self.hard = temperature, last_temperature, hard

    def arch_step_comes(self, first: int, end: int) -> bool:
        return first < end  # with every weights step

    def monitors(self) -> set[str]:
        return super().monitors() - {"arch/loss"}  # both steps have one loss

    def weights_loss(self, batch: Batch) -> Tensor:
        return self.penalised(super().weights_loss(batch))

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        for part in batch.values():
            loss = self.weights_loss(part)
            self.check_finite("train/loss", loss)
            if not self._pending:
                for name in ("weights", "arch"):
                    self._optimizer(name).zero_grad()
            self.manual_backward(loss / self.accumulate)
            self._pending += 1
            if self._pending == self.accumulate:
                self._apply_weights()
            self.log_batch("train/loss", loss.detach(), prog_bar=True)
        if self.logging_is_due:
            self.log_search()

    def _apply_weights(self) -> None:
        """Take both steps, on the gradients of one loss."""
        pending = self._pending
        super()._apply_weights()
        if pending and self.current_epoch >= self.arch_warmup_epochs:
            self._apply_arch(self._optimizer("arch"))

    def gates(self, generator: torch.Generator) -> Gates:
        values = {
            group: gumbel_softmax(theta, gumbel_noise(theta.shape, generator), self.tau)
            for group, theta in self.theta.items()
        }
        if self.estimator == "reinmax":
            return drawn_gates(
                {group: reinmax(self.theta[group], largest(rows), self.tau) for group, rows in values.items()},
                self.estimator,
            )
        if self.hard:
            return Gates.drawn({group: straight_through(largest(rows), rows) for group, rows in values.items()})
        return Gates.soft(values)
