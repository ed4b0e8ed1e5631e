"""The loop of a search that trains two things in turn: shared weights and an architecture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.errors import ConfigError
from lightning_nas.tasks.base import Batch
from lightning_nas.training.memory import RememberingModule

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

_OURS = (("gradient_clip_val", None, "weights_clip and arch_clip"), ("accumulate_grad_batches", 1, "accumulate"))


class AlternatingModule(RememberingModule):
    """Alternates a weights step on one part of the training data and an architecture step on another.

    What Lightning gives only to modules with one optimiser is here for two: toggling, clipping after unscaling,
    accumulation, schedules, step counters, and their place in the checkpoint.

    Args:
        seed: of everything random.
        weights_optimizer: makes the optimiser of the shared weights from a list of parameter groups.
        arch_optimizer: makes the optimiser of the architecture parameters.
        weights_scheduler: makes the learning-rate schedule of the weights; stepped once an epoch.
        arch_scheduler: likewise for the architecture parameters.
        weights_clip: largest gradient norm of the weights step; None for no clipping.
        arch_clip: likewise for the architecture step.
        accumulate: weights batches whose gradients are averaged before one step.
        alternate: "batch" takes both steps on every batch; "epoch" first goes through all weights batches and then
            through all architecture batches.
        arch_every: take the architecture step on every n-th batch only (with ``alternate="batch"``).
        arch_warmup_epochs: epochs at the beginning without architecture steps.

    Raises:
        ConfigError: a combination that cannot be meant.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        weights_optimizer: OptimizerFactory,
        arch_optimizer: OptimizerFactory,
        weights_scheduler: SchedulerFactory | None = None,
        arch_scheduler: SchedulerFactory | None = None,
        weights_clip: PositiveFloat | None = None,
        arch_clip: PositiveFloat | None = None,
        accumulate: PositiveInt = 1,
        alternate: Literal["batch", "epoch"] = "batch",
        arch_every: PositiveInt = 1,
        arch_warmup_epochs: NonNegativeInt = 0,
    ) -> None:
        super().__init__(seed)
        if alternate == "epoch" and arch_every != 1:
            raise ConfigError("strategy.arch_every needs strategy.alternate=batch; with epoch every arch batch counts")
        self.automatic_optimization = False
        self._optimizers = weights_optimizer, arch_optimizer
        self._schedulers = weights_scheduler, arch_scheduler
        self._clips = weights_clip, arch_clip
        self.accumulate, self.alternate = accumulate, alternate
        self.arch_every, self.arch_warmup_epochs = arch_every, arch_warmup_epochs
        self.weights_steps = self.arch_steps = 0
        self._pending, self._restored = 0, list[Tensor | None]()

    # -- what is trained, and for what --------------------------------------------------------------------------

    @abstractmethod
    def weight_parameters(self) -> list[nn.Parameter]:
        """The shared weights, in definition order."""

    @abstractmethod
    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, in definition order."""

    @abstractmethod
    def weights_loss(self, batch: Batch) -> Tensor:
        """Loss of the weights step on a batch of the weights part."""

    @abstractmethod
    def arch_loss(self, batch: Batch) -> Tensor:
        """Loss of the architecture step on a batch of the arch part."""

    def log_search(self) -> None:
        """Log what is the strategy's own (entropy, temperature, ...); called after a batch whose values are logged."""

    # -- the loop -----------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        if "weights" not in batch:
            self._apply_weights()
        if "arch" in batch and self._arch_is_due():
            self._arch_step(batch["arch"], batch.get("weights"))
        if "weights" in batch:
            self._weights_step(batch["weights"])
        if self.logging_is_due:
            self.log_search()

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

    def _weights_step(self, batch: Batch) -> None:
        optimizer = self._optimizer("weights")
        with self.toggled_optimizer(optimizer):
            loss = self.weights_loss(batch)
            self.check_finite("train/loss", loss)
            if not self._pending:
                optimizer.zero_grad()
            self.manual_backward(loss / self.accumulate)
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
        optimizer: LightningOptimizer = self.optimizers()[("weights", "arch").index(name)]  # type: ignore[index]
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
            make([{"params": parameters, "name": name}])
            for make, (name, parameters) in zip(self._optimizers, groups.items(), strict=True)
        ]
        made = [make(opt) for make, opt in zip(self._schedulers, optimizers, strict=True) if make is not None]
        return optimizers, made

    def configure_callbacks(self) -> list[pl.Callback]:
        """No callbacks; the first hook that sees the trainer, before Lightning refuses its flags in its own words."""
        for flag, neutral, ours in _OURS:
            if getattr(self.trainer, flag) != neutral:
                raise ConfigError(f"Trainer({flag}=...) has no meaning with two optimisers; use the strategy's {ours}")
        if str(self.trainer.precision) in ("16-true", "bf16-true"):
            raise ConfigError(
                f"precision {self.trainer.precision} rounds the architecture parameters; use 16-mixed or bf16-mixed"
            )
        if str(self.trainer.precision) == "16-mixed" and self.accumulate > 1 and self.alternate == "batch":
            raise ConfigError(
                "precision 16-mixed rescales at every architecture step, in the middle of an accumulation; "
                "use bf16-mixed, strategy.accumulate=1 or strategy.alternate=epoch"
            )
        return []

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: under fp16 the gradients are unscaled by now, and not before."""
        clip = self._clips[self.trainer.optimizers.index(optimizer)]
        if clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")

    def state(self) -> dict[str, Any]:
        steps = {"weights_steps": self.weights_steps, "arch_steps": self.arch_steps, "pending": self._pending}
        gradients = [p.grad for p in self._trained()] if self._pending else []
        return {**super().state(), **steps, "gradients": gradients}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.weights_steps, self.arch_steps = state["weights_steps"], state["arch_steps"]
        self._pending, self._restored = state["pending"], state["gradients"]

    def on_train_start(self) -> None:
        """Take up an accumulation where a checkpoint left it; Lightning drops gradients between loading and here."""
        for parameter, gradient in zip(self._trained(), self._restored, strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter)
        self._restored = []
