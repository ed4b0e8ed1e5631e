r"""SNAS: stochastic neural architecture search (Xie, Zheng, Liu, Lin, ICLR 2019, arXiv:1812.09926).

Every choice mixes its options by a concrete sample :math:`Z = \mathrm{softmax}((\theta + g) / \lambda)` with Gumbel
noise :math:`g`, one sample a batch. Weights and :math:`\theta` are trained *together*: one loss, one backward pass, no
part of the data held out. :math:`\lambda` falls linearly from 1 to 0.03.

Differs from the paper: the batches of both training parts are trained on, in turn; the paper's resource constraint is
``strategy.penalty``.
"""

from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax, largest, straight_through
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.tasks.base import Batch, Task


class SNAS(AnnealedSearch):
    """Concrete samples, weights and architecture in one step.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        temperature: in the first epoch.
        last_temperature: in the last epoch.
        hard: run the largest option of each sample alone, gradients passing straight through.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        temperature: PositiveFloat = 1.0,
        last_temperature: PositiveFloat = 0.03,
        hard: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        self.temperature, self.last_temperature, self.hard = temperature, last_temperature, hard

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
        """Both steps, on the gradients of one loss."""
        pending = self._pending
        super()._apply_weights()
        if pending and self.current_epoch >= self.arch_warmup_epochs:
            self._apply_arch(self._optimizer("arch"))

    def gates(self, generator: torch.Generator) -> Gates:
        values = {
            group: gumbel_softmax(theta, gumbel_noise(theta.shape, generator), self.tau)
            for group, theta in self.theta.items()
        }
        if self.hard:
            return Gates.drawn({group: straight_through(largest(rows), rows) for group, rows in values.items()})
        return Gates.soft(values)
