"""The training loop of a search with shared weights: the weights step and the architecture step.

:meth:`SearchLoop.training_step` is the whole step. Everything around it is what Lightning provides for automatic
optimisation only: toggling, clipping after unscaling, accumulation, schedules, step counters, and their checkpoint.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytorch_lightning as pl
from pydantic import NonNegativeInt, PositiveFloat
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lightning_nas.data.reader import Alternate, SearchReader
from lightning_nas.errors import ConfigError, DataError, NoStepError
from lightning_nas.ranges import Count
from lightning_nas.strategies.options import OptimizerFactory, SchedulerFactory
from lightning_nas.tasks.base import Batch
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.schedules import OverEpochs
from lightning_nas.training.stopping import StopAfter

_OURS = (
    ("gradient_clip_val", None, "use the strategy's weights_clip and arch_clip"),
    ("accumulate_grad_batches", 1, "use the strategy's accumulate"),
    ("min_steps", None, "use min_epochs"),
)


@dataclass(frozen=True)
class GroupTraining:
    """Optimiser, learning-rate schedule (one step an epoch) and largest gradient norm of a group of parameters."""

    optimizer: OptimizerFactory
    scheduler: SchedulerFactory | None
    clip: float | None


@dataclass(frozen=True)
class ArchSteps:
    """How and when architecture steps are taken.

    Args:
        optimizer: makes the optimiser of the architecture parameters from a list of parameter groups.
        scheduler: makes its learning-rate schedule; one step an epoch.
        clip: largest gradient norm of the architecture step; None for no clipping.
        alternate: "batch" takes both steps on every batch; "epoch" goes through all weights batches, then through all
            architecture batches.
        every: take the architecture step on every n-th batch only (with ``alternate="batch"``).
        warmup_epochs: epochs at the beginning without architecture steps.

    Raises:
        ConfigError: ``every`` together with ``alternate="epoch"``.
    """

    optimizer: OptimizerFactory
    scheduler: SchedulerFactory | None = None
    clip: PositiveFloat | None = None
    alternate: Alternate = "batch"
    every: Count = 1
    warmup_epochs: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.alternate == "epoch" and self.every != 1:
            raise ConfigError(
                "strategy.arch_every needs strategy.alternate=batch; with epoch every arch batch is a step"
            )


class SearchLoop(ResumableModule, SearchReader):
    """Trains shared weights on one part of the training data and architecture parameters on the other.

    Args:
        seed: seed of all random numbers.
        weights: how the shared weights are trained.
        accumulate: weights batches whose gradients are averaged before one step.
        arch: how architecture parameters are trained; None for a search without any.

    Attributes:
        warm_up: name of the setting that is the number of epochs without architecture steps.
        lengths: names of the settings that the number of epochs must agree with.
        schedule_length: name of the setting that is the length of a learning-rate schedule; None for all epochs.
        shortened: whether this is a debugging run, whose warm-up was shortened to fit.
        alternate: order of the batches of the two parts; None for a search without architecture steps.
        weights_steps: number of weights steps so far.
        arch_steps: number of architecture steps so far.
    """

    warm_up: ClassVar[str] = "arch_warmup_epochs"
    lengths: ClassVar[tuple[str, ...]] = ("arch_warmup_epochs",)
    schedule_length: ClassVar[str | None] = None

    def __init__(self, seed: int, weights: GroupTraining, accumulate: Count, arch: ArchSteps | None) -> None:
        super().__init__(seed)
        self.automatic_optimization = False
        self.trainings = {"weights": weights}
        self.accumulate = accumulate
        self.alternate: Alternate | None = None
        self.arch_every, self.arch_warmup_epochs = 1, 0
        if arch is not None:
            self.trainings["arch"] = GroupTraining(arch.optimizer, arch.scheduler, arch.clip)
            self.alternate, self.arch_every, self.arch_warmup_epochs = arch.alternate, arch.every, arch.warmup_epochs
        self.weights_steps = self.arch_steps = 0
        self.shortened = False
        self._pending, self._restored = 0, list[Tensor | None]()

    # -- what a strategy defines --------------------------------------------------------------------------------

    @abstractmethod
    def weight_parameters(self) -> list[nn.Parameter]:
        """The shared weights, in definition order."""

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, in definition order; none by default."""
        return []

    @abstractmethod
    def weights_loss(self, batch: Batch) -> Tensor:
        """Loss of the weights step on a batch of the weights part."""

    def arch_loss(self, batch: Batch) -> Tensor:
        """Loss of the architecture step on a batch of the arch part."""
        raise NotImplementedError

    def log_search(self) -> None:
        """Log quantities of the strategy (entropy, temperature, ...); called after batches whose values are logged."""

    def monitors(self) -> set[str]:
        """Quantities that are logged in every epoch if those of every batch are (``log_every_n_steps=1``).

        Callbacks such as ``EarlyStopping`` may monitor them. A strategy that logs more in :meth:`log_search` adds it.
        """
        from_the_start = self.steps_architecture and self.arch_warmup_epochs == 0
        return {"train/loss", "arch/loss"} if from_the_start else {"train/loss"}

    # -- the step -----------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        """One architecture step, if it is due, and one weights step.

        Args:
            batch: ``{"weights": (x, y), "arch": (x, y)}``, or one of the two with ``alternate="epoch"``.
            batch_idx: not used.
        """
        if "weights" not in batch:
            self._apply_weights()
        if "arch" in batch and self._arch_is_due():
            self._arch_step(batch["arch"], batch.get("weights"))
        if "weights" in batch:
            self._weights_step(batch["weights"])
        if self.logging_is_due:
            self.log_search()

    @property
    def steps_architecture(self) -> bool:
        """Whether the search has architecture steps."""
        return "arch" in self.trainings

    def _arch_is_due(self) -> bool:
        return self.current_epoch >= self.arch_warmup_epochs and self.position % self.arch_every == 0

    def arch_backward(self, batch: Batch, weights_batch: Batch | None) -> Tensor:
        """Compute the gradients of the architecture parameters; returns the loss.

        Args:
            batch: of the arch part.
            weights_batch: of the weights part, the batch of the weights step that follows; None if there is none.
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

    def weights_backward(self, batch: Batch) -> Tensor:
        """Add the gradients of one batch to those of the weights; returns the loss."""
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
        """Step on the accumulated gradients: ``accumulate`` batches, or the rest at the end of a part."""
        if self._pending:
            optimizer = self._optimizer("weights")
            with self.toggled_optimizer(optimizer):
                optimizer.step()
            self._pending = 0
            self.weights_steps += 1

    def _trained(self) -> list[nn.Parameter]:
        return [*self.weight_parameters(), *self.arch_parameters()]

    def _optimizer(self, name: str) -> LightningOptimizer:
        made: Any = self.optimizers()  # a single one comes without a list
        optimizer: LightningOptimizer = made[list(self.trainings).index(name)] if isinstance(made, list) else made
        return optimizer

    # -- the length of the search -------------------------------------------------------------------------------

    @property
    def epochs(self) -> int:
        """Epochs of the fit.

        Raises:
            ConfigError: the Trainer has no limit of epochs.
        """
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise ConfigError(f"trainer.max_epochs={epochs}: a search needs the number of its epochs, at least 1")
        return epochs

    def shorten_warm_up(self, epochs: int) -> None:
        """Limit the epochs without architecture steps, for debugging runs."""
        self.shortened = True
        setattr(self, self.warm_up, min(getattr(self, self.warm_up), epochs))

    @classmethod
    def check_lengths(cls, epochs: int, settings: Mapping[str, Any], *, shortened: bool = False) -> None:
        """Refuse settings that do not go with the number of epochs; needs no instance, so that it comes first.

        Args:
            epochs: of the search.
            settings: the constructor's arguments named in :attr:`lengths`.
            shortened: whether this is a debugging run.

        Raises:
            ConfigError: a warm-up leaves no epoch for architecture steps; names both numbers.
        """
        warm_up = settings.get(cls.warm_up, 0)
        if warm_up >= epochs:
            raise ConfigError(
                f"strategy.{cls.warm_up}={warm_up} leaves no architecture step in trainer.max_epochs={epochs}; "
                f"legal: less than that, or a max_epochs above {warm_up}"
            )

    def check_length(self, batches: int, before: int = 0) -> None:
        """Refuse a search without architecture steps.

        Args:
            batches: of an epoch.
            before: batches of an epoch before the first that may have an architecture step.

        Raises:
            ConfigError: names the settings and their numbers.
        """
        self.check_lengths(self.epochs, {name: getattr(self, name) for name in self.lengths}, shortened=self.shortened)
        if self.alternate == "epoch" and batches < 2:
            raise ConfigError(
                "strategy.alternate=epoch needs two batches an epoch, one of each part; trainer.limit_train_batches="
                f"{self.trainer.limit_train_batches} leaves {batches}"
            )
        limits = [callback.batches for callback in self.trainer.callbacks if isinstance(callback, StopAfter)]  # type: ignore[attr-defined]
        end = min([self.epochs * batches, *limits])
        if not self.arch_step_comes(self.first_arch_epoch * batches + before, end):
            stop = f", trainer.max_steps={min(limits)}" if limits else ""
            raise ConfigError(
                f"no architecture step is due in the {end} batches of the search, {batches} an epoch: "
                f"{self.rhythm}{stop}"
            )

    @property
    def first_arch_epoch(self) -> int:
        """The epoch that may have the first architecture step which counts for the answer."""
        return int(getattr(self, self.warm_up))

    def arch_step_comes(self, first: int, end: int) -> bool:
        """Whether an architecture step is due in the batches from ``first`` to before ``end``, if there are such."""
        return not self.steps_architecture or -(-first // self.arch_every) * self.arch_every < end

    @property
    def rhythm(self) -> str:
        """The settings that decide when architecture steps are due, for messages."""
        return (
            f"strategy.arch_every={self.arch_every}, trainer.max_epochs={self.epochs}, "
            f"strategy.{self.warm_up}={getattr(self, self.warm_up)}"
        )

    @property
    def steps_taken(self) -> dict[str, int]:
        """Number of steps of each kind that this search is made of: "weights", and "architecture" if it has such."""
        taken = {"weights": self.weights_steps}
        return taken | {"architecture": self.arch_steps} if self.steps_architecture else taken

    def check_steps(self) -> None:
        """Refuse to answer before a step of each kind was taken.

        Raises:
            NoStepError: names the kind and the likely cause.
        """
        missing = [kind for kind, count in self.steps_taken.items() if not count]
        if missing:
            cause = (
                "it was not trained"
                if not self.position
                else "see warm-up epochs, limit_train_batches, max_time, max_steps"
            )
            raise NoStepError(
                f"the search took no {missing[0]} step in {self.position} batches, so it has no answer: {cause}"
            )

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training and not (isinstance(batch, dict) and batch.keys() <= {"weights", "arch"} and batch):
            came = f"a dict of {sorted(map(str, batch))}" if isinstance(batch, dict) else f"a {type(batch).__name__}"
            raise DataError(
                f"a training batch of a search is a dict with 'weights' and 'arch', got {came}; "
                "pass the data to Trainer.fit as datamodule=... or train_dataloaders=..., which are then split"
            )
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def on_train_epoch_end(self) -> None:
        self._apply_weights()
        super().on_train_epoch_end()
        schedulers = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()  # type: ignore[call-arg]

    def configure_optimizers(self) -> Any:
        groups = {"weights": self.weight_parameters(), "arch": self.arch_parameters()}
        optimizers = [
            training.optimizer([{"params": groups[name], "name": name}]) for name, training in self.trainings.items()
        ]
        made = [
            (training.scheduler, optimizer)
            for training, optimizer in zip(self.trainings.values(), optimizers, strict=True)
        ]
        return optimizers, [self.make_schedule(make, optimizer) for make, optimizer in made if make is not None]

    def make_schedule(self, make: SchedulerFactory, optimizer: Optimizer) -> Any:
        """A learning-rate schedule; one whose length is open takes that of the fit."""
        return (make.of(self.epochs) if isinstance(make, OverEpochs) else make)(optimizer)

    def configure_callbacks(self) -> list[pl.Callback]:
        """What stands for ``max_steps``; the first hook that sees the trainer, before Lightning refuses flags."""
        for flag, neutral, ours in _OURS:
            if getattr(self.trainer, flag) != neutral:
                raise ConfigError(f"Trainer({flag}=...) has no meaning in a search; {ours}")
        precision = str(self.trainer.precision)
        if precision in ("16-true", "bf16-true"):
            raise ConfigError(f"precision {precision} rounds the architecture parameters; use 16-mixed or bf16-mixed")
        if precision == "16-mixed" and self.accumulate > 1 and self.alternate == "batch":
            raise ConfigError(
                "precision 16-mixed rescales at every architecture step, in the middle of an accumulation; "
                "use bf16-mixed, strategy.accumulate=1 or strategy.alternate=epoch"
            )
        return StopAfter.instead_of_steps(self.trainer)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: under fp16 the gradients are unscaled by now, and not before."""
        clip = list(self.trainings.values())[self.trainer.optimizers.index(optimizer)].clip
        if clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=clip, gradient_clip_algorithm="norm")

    def state(self) -> dict[str, Any]:
        gradients = [p.grad for p in self._trained()] if self._pending else []
        own: dict[str, Any] = {"weights_steps": self.weights_steps, "pending": self._pending, "gradients": gradients}
        if self.steps_architecture:
            own["arch_steps"] = self.arch_steps
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.weights_steps, self.arch_steps = state["weights_steps"], state.get("arch_steps", 0)
        self._pending, self._restored = state["pending"], state["gradients"]

    def on_fit_start(self) -> None:
        """Refuse processes that would wait for gradients which a step does not make.

        Raises:
            ConfigError: DDP without ``find_unused_parameters``.
        """
        model = self.trainer.model
        if isinstance(model, DistributedDataParallel) and not model.find_unused_parameters:
            raise ConfigError(
                "trainer.strategy: a step of a search leaves parameters without a gradient, which DDP waits for; "
                "use strategy='ddp_find_unused_parameters_true' (trainer=ddp)"
            )

    def on_train_start(self) -> None:
        """Restore the accumulated gradients of a checkpoint; Lightning drops them between loading and here."""
        for parameter, gradient in zip(self._trained(), self._restored, strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter)
        self._restored = []
