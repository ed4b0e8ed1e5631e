"""Exact checkpoints: when they are saved, the conditions they depend on, and the stop after a signal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.callbacks import Callback

import lightning_nas
from lightning_nas.errors import CheckpointError
from lightning_nas.moved import present_name
from lightning_nas.training.metrics import MetricsFile
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.signals import StopRequest

_FINGERPRINT = "lightning_nas_fingerprint"


class ExactCheckpoint(Callback):
    """Save ``last.ckpt`` at the *start* of a batch, when the previous batch is complete.

    A checkpoint is saved every ``every`` batches, before the last batch of an epoch (so that a stop during validation
    loses one batch), at the end, and after SIGINT or SIGTERM, when the run ends with exit code 130 or 143. Under DDP
    all ranks decide together at the start of each batch.

    A checkpoint holds a fingerprint of all conditions that change the bits of a result. A resume under another
    fingerprint is refused unless ``allow_inexact``.

    Args:
        folder: folder of ``last.ckpt`` and its older generations.
        every: number of batches between two checkpoints.
        allow_inexact: whether to resume with a warning when the fingerprint differs.
        conditions: further conditions that must not change between start and resume, as text by name.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 50,
        allow_inexact: bool = False,
        conditions: dict[str, str] | None = None,
    ) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.every, self.allow_inexact = every, allow_inexact
        self.conditions = conditions or {}
        self._began = time.monotonic()
        self._verified = False

    @classmethod
    def of(cls, trainer: pl.Trainer) -> ExactCheckpoint:
        """Return the callback of this class of a trainer."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))  # type: ignore[attr-defined]

    @property
    def seconds(self) -> float:
        """Duration of this training, including the time before a resume; for reports, never for decisions."""
        return time.monotonic() - self._began

    # -- stopping -----------------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Lightning's own handlers take part in a collective operation wherever the signal comes, and hang under DDP.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        if processes := getattr(trainer.strategy.launcher, "procs", None):
            StopRequest.launched(processes)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        StopRequest.defer(deferred=True)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ResumableModule)
        position, signum = pl_module.position, _asked_to_stop(trainer)
        due = position > 0 and position % self.every == 0
        if signum or due or batch_idx + 1 == trainer.num_training_batches:
            pl_module.check_parameters()
            trainer.save_checkpoint(self.path, weights_only=False)
        if signum:
            StopRequest.leave(signum, together=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Statistics of batch norm are each process's own, and a checkpoint holds the first one's: those are to count.
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if signum := _asked_to_stop(trainer):
            StopRequest.leave(signum, together=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        signum = _asked_to_stop(trainer)
        StopRequest.defer(deferred=False)
        if signum:
            StopRequest.leave(signum, together=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        StopRequest.defer(deferred=False)
        StopRequest.unobserved()

    # -- what is in a checkpoint --------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_FINGERPRINT] = self.fingerprint(trainer)
        checkpoint["lightning_nas_seconds"] = self.seconds
        checkpoint["lightning_nas_rows"] = [logger.table.rows for logger in _tables(trainer)]
        # Lightning counts the batch in hand as done when it restarts, and would shift the axis of every logger by one.
        if trainer.training and trainer.fit_loop.epoch_loop.batch_progress.current.ready > _done(trainer):
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self._verified:
            self.verify(trainer, checkpoint)
        self._began -= checkpoint["lightning_nas_seconds"]
        for logger, rows in zip(_tables(trainer), checkpoint["lightning_nas_rows"], strict=False):
            logger.table.cut(rows)

    def verify(self, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was made under other conditions, or warn of it, before it is loaded.

        Raises:
            CheckpointError: the conditions changed; the message names them.
        """
        self._verified = True
        if changed := changes(checkpoint, self.fingerprint(trainer)):
            if not self.allow_inexact:
                raise CheckpointError(f"{changed}; resume.allow_inexact=true resumes nevertheless")
            rank_zero_warn(f"inexact resume: {changed}")

    def fingerprint(self, trainer: pl.Trainer) -> dict[str, str]:
        """All conditions that change the bits of a result, by name."""
        return {
            "lightning_nas": lightning_nas.__version__,
            "torch": str(torch.__version__),
            "torchvision": torchvision.__version__,
            "pytorch_lightning": version("pytorch_lightning"),
            "numpy": np.__version__,
            "device": trainer.strategy.root_device.type,
            "processes": str(trainer.world_size),
            "threads": str(torch.get_num_threads()),
            "precision": str(trainer.precision),
            **self.conditions,
        }


def changes(checkpoint: dict[str, Any], conditions: dict[str, str], *, known_so_far: bool = False) -> str:
    """Describe the differences between the conditions of a checkpoint and the present ones; empty if there are none.

    Args:
        checkpoint: content of the checkpoint.
        conditions: the present conditions.
        known_so_far: whether ``conditions`` is a part of all conditions; only that part is compared.
    """
    then = checkpoint.get(_FINGERPRINT, {})
    if known_so_far:
        then = {name: then.get(name) for name in conditions}
    if not (listed := differences(then, conditions)):
        return ""
    return (
        f"the checkpoint was made under other conditions: {listed}; "
        "the resumed run would not equal an uninterrupted one"
    )


def differences(then: Mapping[str, str | None], now: Mapping[str, str]) -> str:
    """Describe the first three differences between two sets of conditions; empty if there are none.

    >>> differences({"seed": "0", "threads": "1"}, {"seed": "0", "threads": "2"})
    'threads was 1, is 2'
    """
    changed = [name for name in {**then, **now} if _present(then.get(name)) != now.get(name)]
    listed = [f"{name} was {then.get(name)}, is {now.get(name)}" for name in changed[:3]]
    return ", ".join([*listed, "..."] if len(changed) > 3 else listed)


def _present(text: str | None) -> str | None:
    """A condition as it is written now: a class in quotes may have moved since."""
    if text is None or not text.startswith('"'):
        return text
    return f'"{present_name(text[1:-1])}"'


def _asked_to_stop(trainer: pl.Trainer) -> int:
    """The signal that any rank has received, or 0; the same on all ranks."""
    if trainer.world_size == 1:
        return StopRequest.signum
    signum = torch.tensor(StopRequest.signum, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(signum, torch.distributed.ReduceOp.MAX)
    return int(signum)


def _tables(trainer: pl.Trainer) -> list[MetricsFile]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsFile) and trainer.is_global_zero]


def _done(trainer: pl.Trainer) -> int:
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.completed)
