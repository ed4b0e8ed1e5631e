"""A search that trains two things in turn: shared weights and architecture parameters."""

from __future__ import annotations

from typing import Any, Literal

import pytorch_lightning as pl
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.loop import OptimizerFactory, SchedulerFactory, Training
from lightning_nas.tasks.base import Batch, Task


class AlternatingSearch(SearchModule):
    """Alternates a weights step on one part of the training data and an architecture step on another.

    Subclasses say which the :meth:`arch_parameters` are, and where the paper asks for it, :meth:`arch_loss`.

    Args:
        space: what can be built.
        task: what for.
        table: what each operation costs.
        arch_optimizer: makes the optimiser of the architecture parameters from a list of parameter groups.
        arch_scheduler: makes its learning-rate schedule; stepped once an epoch.
        arch_clip: largest gradient norm of the architecture step; None for no clipping.
        alternate: "batch" takes both steps on every batch; "epoch" first goes through all weights batches and then
            through all architecture batches.
        arch_every: take the architecture step on every n-th batch only (with ``alternate="batch"``).
        arch_warmup_epochs: epochs at the beginning without architecture steps.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Raises:
        ConfigError: a combination that cannot be meant.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        arch_optimizer: OptimizerFactory,
        arch_scheduler: SchedulerFactory | None = None,
        arch_clip: PositiveFloat | None = None,
        alternate: Literal["batch", "epoch"] = "batch",
        arch_every: PositiveInt = 1,
        arch_warmup_epochs: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        if alternate == "epoch" and arch_every != 1:
            raise ConfigError("strategy.arch_every needs strategy.alternate=batch; with epoch every arch batch counts")
        self.trainings["arch"] = Training(arch_optimizer, arch_scheduler, arch_clip)
        self.alternate = alternate
        self.arch_every, self.arch_warmup_epochs = arch_every, arch_warmup_epochs
        self.arch_steps = 0

    def arch_loss(self, batch: Batch) -> Tensor:
        """Loss of the architecture step: the task's, on the other part of the data and under gates of its own."""
        return self.held_out_loss(batch, self.gates(self.generator("arch")))

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        if "weights" not in batch:
            self._apply_weights()
        if "arch" in batch and self._arch_is_due():
            self._arch_step(batch["arch"], batch.get("weights"))
        super().training_step(batch, batch_idx)

    def _arch_is_due(self) -> bool:
        return self.current_epoch >= self.arch_warmup_epochs and self.position % self.arch_every == 0

    def arch_backward(self, batch: Batch, weights_batch: Batch | None) -> Tensor:
        """Give the architecture parameters their gradients; returns the loss.

        Args:
            batch: of the arch part.
            weights_batch: of the weights part, that of the weights step to come; None where there is none.
        """
        del weights_batch
        loss = self.arch_loss(batch)
        self.check_finite("arch/loss", loss)
        self.manual_backward(loss)
        return loss

    def _arch_step(self, batch: Batch, weights_batch: Batch | None) -> None:
        optimizer = self._optimizer("arch")
        with self.toggled_optimizer(optimizer):
            optimizer.zero_grad()
            loss = self.arch_backward(batch, weights_batch)
            self._apply_arch(optimizer)
        self.log_batch("arch/loss", loss.detach(), prog_bar=True)

    def _apply_arch(self, optimizer: LightningOptimizer) -> None:
        optimizer.step()
        for parameter in self.arch_parameters():
            self.check_finite("an architecture parameter", parameter)
        self.arch_steps += 1

    def configure_callbacks(self) -> list[pl.Callback]:
        if str(self.trainer.precision) == "16-mixed" and self.accumulate > 1 and self.alternate == "batch":
            raise ConfigError(
                "precision 16-mixed rescales at every architecture step, in the middle of an accumulation; "
                "use bf16-mixed, strategy.accumulate=1 or strategy.alternate=epoch"
            )
        return super().configure_callbacks()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "arch_steps": self.arch_steps}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.arch_steps = state["arch_steps"]
