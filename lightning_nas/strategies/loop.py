"""The loop of a search that trains shared weights, with what Lightning gives only to automatic optimisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pydantic import PositiveFloat, PositiveInt
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.data.reader import Alternate, SearchReader
from lightning_nas.errors import ConfigError
from lightning_nas.tasks.base import Batch
from lightning_nas.training.memory import RememberingModule

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

_OURS = (("gradient_clip_val", None, "weights_clip and arch_clip"), ("accumulate_grad_batches", 1, "accumulate"))


@dataclass(frozen=True)
class Training:
    """How one group of parameters is trained: optimiser, learning-rate schedule by epochs, largest gradient norm."""

    optimizer: OptimizerFactory
    scheduler: SchedulerFactory | None
    clip: float | None


class WeightsLoop(RememberingModule, SearchReader):
    """Trains shared weights on one part of the training data.

    Toggling, clipping after unscaling, accumulation, schedules, step counters, and their place in the checkpoint.

    Args:
        seed: of everything random.
        weights_optimizer: makes the optimiser of the shared weights from a list of parameter groups.
        weights_scheduler: makes the learning-rate schedule of the weights; stepped once an epoch.
        weights_clip: largest gradient norm of the weights step; None for no clipping.
        accumulate: weights batches whose gradients are averaged before one step.

    Attributes:
        alternate: how batches of the weights part and of the architecture part follow each other; None where only the
            weights part is trained on.
    """

    alternate: Alternate | None = None

    def __init__(
        self,
        *,
        seed: int = 0,
        weights_optimizer: OptimizerFactory,
        weights_scheduler: SchedulerFactory | None = None,
        weights_clip: PositiveFloat | None = None,
        accumulate: PositiveInt = 1,
    ) -> None:
        super().__init__(seed)
        self.automatic_optimization = False
        self.trainings = {"weights": Training(weights_optimizer, weights_scheduler, weights_clip)}
        self.accumulate = accumulate
        self.weights_steps = 0
        self._pending, self._restored = 0, list[Tensor | None]()

    # -- what is trained, and for what --------------------------------------------------------------------------

    @abstractmethod
    def weight_parameters(self) -> list[nn.Parameter]:
        """The shared weights, in definition order."""

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, in definition order; none unless a strategy has some."""
        return []

    @abstractmethod
    def weights_loss(self, batch: Batch) -> Tensor:
        """Loss of the weights step on a batch of the weights part."""

    def log_search(self) -> None:
        """Log what is the strategy's own (entropy, temperature, ...); called after a batch whose values are logged."""

    # -- the loop -----------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        if "weights" in batch:
            self._weights_step(batch["weights"])
        if self.logging_is_due:
            self.log_search()

    def weights_backward(self, batch: Batch) -> Tensor:
        """Add to the gradients of the weights those of one batch; returns its loss."""
        loss = self.weights_loss(batch)
        self.check_finite("train/loss", loss)
        self.manual_backward(loss / self.accumulate)
        return loss

    def _weights_step(self, batch: Batch) -> None:
        optimizer = self._optimizer("weights")
        with self.toggled_optimizer(optimizer):
            if not self._pending:
                optimizer.zero_grad()
            loss = self.weights_backward(batch)
        self._pending += 1
        if self._pending == self.accumulate:
            self._apply_weights()
        self.log_batch("train/loss", loss.detach(), prog_bar=True)

    def _apply_weights(self) -> None:
        """Step on what was accumulated: ``accumulate`` batches, or the fewer that are left at the end of a part."""
        if self._pending:
            optimizer = self._optimizer("weights")
            with self.toggled_optimizer(optimizer):
                optimizer.step()
            self._pending = 0
            self.weights_steps += 1

    def _trained(self) -> list[nn.Parameter]:
        return [*self.weight_parameters(), *self.arch_parameters()]

    def _optimizer(self, name: str) -> LightningOptimizer:
        made: Any = self.optimizers()  # one alone comes without a list
        optimizer: LightningOptimizer = made[list(self.trainings).index(name)] if isinstance(made, list) else made
        return optimizer

    def on_train_epoch_end(self) -> None:
        self._apply_weights()
        super().on_train_epoch_end()
        schedulers = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()  # type: ignore[call-arg]

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        groups = {"weights": self.weight_parameters(), "arch": self.arch_parameters()}
        optimizers = [
            training.optimizer([{"params": groups[name], "name": name}]) for name, training in self.trainings.items()
        ]
        schedulers = [training.scheduler for training in self.trainings.values()]
        return optimizers, [make(opt) for make, opt in zip(schedulers, optimizers, strict=True) if make is not None]

    def configure_callbacks(self) -> list[pl.Callback]:
        """No callbacks; the first hook that sees the trainer, before Lightning refuses its flags in its own words."""
        for flag, neutral, ours in _OURS:
            if getattr(self.trainer, flag) != neutral:
                raise ConfigError(f"Trainer({flag}=...) has no meaning in a search; use the strategy's {ours}")
        if str(self.trainer.precision) in ("16-true", "bf16-true"):
            raise ConfigError(
                f"precision {self.trainer.precision} rounds the architecture parameters; use 16-mixed or bf16-mixed"
            )
        return []

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: under fp16 the gradients are unscaled by now, and not before."""
        clip = list(self.trainings.values())[self.trainer.optimizers.index(optimizer)].clip
        if clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")

    def state(self) -> dict[str, Any]:
        gradients = [p.grad for p in self._trained()] if self._pending else []
        own = {"weights_steps": self.weights_steps, "pending": self._pending, "gradients": gradients}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.weights_steps = state["weights_steps"]
        self._pending, self._restored = state["pending"], state["gradients"]

    def on_train_start(self) -> None:
        """Take up an accumulation where a checkpoint left it; Lightning drops gradients between loading and here."""
        for parameter, gradient in zip(self._trained(), self._restored, strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter)
        self._restored = []
