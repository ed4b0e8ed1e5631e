"""Training of one stand-alone network, with exact resume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.errors import CheckpointError, ConfigError, InputError, shown
from lightning_nas.ops.cells import DropPath
from lightning_nas.ops.outputs import output_of
from lightning_nas.spaces.description import network_of
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.tasks.description import describe, rebuilt
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.module import ResumableModule

_ORIGIN = "lightning_nas_network"
_SETTINGS = ("clip", "auxiliary_weight", "drop_path", "drop_path_interval")


class NetworkTraining(ResumableModule):
    """Train one network with one optimiser; the loss is that of the task plus the weighted auxiliary loss.

    Args:
        network: the network.
        task: loss and metrics.
        num_classes: width of the classifier, for the metrics.
        seed: seed of dropped paths and of all other random numbers.
        optimizer: makes the optimiser from the list of parameters.
        scheduler: makes the learning-rate schedule from the optimiser; it is stepped once per epoch. None: a constant
            rate.
        clip: upper bound of the gradient norm; None for no clipping.
        auxiliary_weight: weight of the auxiliary classifier's loss; 0 for a network without an auxiliary classifier.
        drop_path: final probability of dropping a path; it rises linearly from 0.
        drop_path_interval: "epoch": the probability of epoch e of E is drop_path * e / E, as in DARTS; "step": it rises
            with every step and reaches ``drop_path`` in the last one, as in NASNet.
        origin: what :meth:`load_from_checkpoint` needs to build the network again, see :func:`origin_of`; None if it
            cannot.

    Raises:
        InputError: ``drop_path`` is set and the network has no path that can be dropped.

    Example:
        >>> from functools import partial
        >>> from torch.optim import SGD
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> space, data = ToySpace(), ToyData(images=256)
        >>> optimizer = partial(SGD, lr=0.1)
        >>> module = NetworkTraining(space.network(space.best), Classification(), 4, seed=0, optimizer=optimizer)
        >>> quiet_trainer(epochs=1).fit(module, datamodule=data)
        >>> module.global_step > 0
        True
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        num_classes: int,
        *,
        seed: int,
        optimizer: Callable[[list[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip: float | None = None,
        auxiliary_weight: float = 0.0,
        drop_path: float = 0.0,
        drop_path_interval: Literal["epoch", "step"] = "epoch",
        origin: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(seed)
        self.origin = origin
        self.network, self.task, self.clip = network, task, clip
        self.auxiliary_weight, self.drop_path, self.drop_path_interval = auxiliary_weight, drop_path, drop_path_interval
        self._paths = [module for module in network.modules() if isinstance(module, DropPath)]
        if drop_path and not self._paths:
            raise InputError(f"paths cannot be dropped in a {type(network).__name__}; leave drop_path=0")
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._metrics = task.metrics(num_classes)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        for path in self._paths:
            path.probability = self.drop_path * self._elapsed()

    def _elapsed(self) -> float:
        """Fraction of the training that has passed, in units of ``drop_path_interval``."""
        if self.drop_path_interval == "step":
            return min((self.global_step + 1) / self.trainer.estimated_stepping_batches, 1.0)
        return self.current_epoch / (self.trainer.max_epochs or 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._loss(output_of(self.network, batch[0]), batch)
        self.check_finite("train/loss", loss)
        self.log_batch("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _loss(self, output: Any, batch: Batch) -> Tensor:
        if not self.auxiliary_weight:
            return self.task.training_loss(output, batch)
        logits, auxiliary = output
        return self.task.training_loss(logits, batch) + self.auxiliary_weight * self.task.loss(auxiliary, batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        output = output_of(self.network, x)
        self._metrics.update(output, y)
        self.log("val/loss", self.task.loss(output, y), sync_dist=True, batch_size=len(y))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._metrics.compute().items()}, prog_bar=True)
        self._metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.origin is not None:
            settings = {name: getattr(self, name) for name in _SETTINGS}
            checkpoint[_ORIGIN] = {**self.origin, "seed": self.seed, "settings": settings}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        *,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = partial(SGD, lr=0.01, momentum=0.9),
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> NetworkTraining:
        """The module of a run's retraining, with the weights of its checkpoint, to train it further or validate it.

        These are the weights of the last step; those that the report is about, which may be averaged ones, are read by
        :func:`lightning_nas.load`. The optimiser is not in the file, since it would have to be executed.

        Args:
            checkpoint_path: ``retrain/checkpoints/last.ckpt`` of a run.
            map_location: device of the weights; None for where they were.
            optimizer: makes the optimiser from the list of parameters.
            scheduler: makes the learning-rate schedule; None for a constant rate.

        Raises:
            CheckpointError: the file is damaged or foreign, or of a space or task that is not of this library.
        """
        content, where = load_checked(Path(checkpoint_path), map_location), shown(Path(checkpoint_path))
        origin = content.get(_ORIGIN) if isinstance(content, dict) else None
        if origin is None:
            raise CheckpointError(f"{where} does not say how its network is built: it is no checkpoint of a retraining")
        settings = origin["settings"]
        architecture = Architecture.from_dict(origin["architecture"], where=where)
        auxiliary = bool(settings["auxiliary_weight"])
        network = network_of(architecture, origin["network"], where=where, auxiliary=auxiliary)
        task = rebuilt(origin["task"], where=where)
        classes = origin["network"]["num_classes"]
        options = {**settings, "optimizer": optimizer, "scheduler": scheduler, "origin": origin}
        module = cls(network, task, classes, seed=origin["seed"], **options)
        module.load_state_dict(content["state_dict"])
        return module

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(list(self.network.parameters()))
        if self._make_scheduler is None:
            return optimizer
        return [optimizer], [self._make_scheduler(optimizer)]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Refuse trainer flags that would be ignored; no callbacks. This is the first hook that sees the trainer."""
        for flag, neutral, ours in (
            ("gradient_clip_val", None, "use retrain.clip"),
            ("accumulate_grad_batches", 1, "use another retrain.batch_size"),
        ):
            if getattr(self.trainer, flag) != neutral:
                raise ConfigError(f"Trainer({flag}=...) is not supported when a network is retrained; {ours}")
        return []

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")


def origin_of(architecture: Architecture, sizes: dict[str, Any] | None, task: Task) -> dict[str, Any] | None:
    """What a checkpoint needs so that its network can be built again; None for a space or a task of a person's own.

    Args:
        architecture: of the network.
        sizes: of the network, see :func:`~lightning_nas.spaces.description.network_of`.
        task: of the training.
    """
    described = describe(task)
    if sizes is None or described is None:
        return None
    return {"architecture": architecture.to_dict(), "network": sizes, "task": described}


@contextmanager
def unannounced() -> Iterator[None]:
    """Without Lightning's lines on devices and lengths, which every training inside a longer run would repeat."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logging.WARNING, logger.level))
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def quiet_trainer(epochs: int, **options: Any) -> pl.Trainer:
    """Make a Trainer for one process without bar, summary and files, for short trainings inside a longer run."""
    return pl.Trainer(
        max_epochs=epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
