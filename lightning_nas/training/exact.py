"""Exact checkpoints: when they are saved, the conditions they depend on, and the stop after a signal."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from lightning_utilities.core.rank_zero import rank_zero_only, rank_zero_warn
from pytorch_lightning.callbacks import Callback

import lightning_nas
from lightning_nas.errors import CheckpointError, EnvironmentFailure, NasError, shown
from lightning_nas.files import make_folder, replace_file
from lightning_nas.moved import present_name
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.metrics import MetricsFile
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.signals import StopRequest

CONTENTS = "contents of the data"
"""The condition that holds a digest of the data; checkpoints of version 0.1 lack it."""

log = logging.getLogger(__name__)
_FINGERPRINT = "lightning_nas_fingerprint"
_LENGTH = 100  # characters of a condition in an error message


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
        warn: told, in the first process, what a resume repaired or gave up.

    Attributes:
        restored: whether the training has begun, with all that a checkpoint restores.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 50,
        allow_inexact: bool = False,
        conditions: dict[str, str] | None = None,
        warn: Callable[[str], object] = rank_zero_warn,
    ) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.every, self.allow_inexact = every, allow_inexact
        self.conditions = conditions or {}
        self._began = time.monotonic()
        self._verified = self.restored = False
        self.warn = rank_zero_only(warn)

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
        if trainer.is_global_zero:
            make_folder(self.path.parent)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        StopRequest.defer(deferred=True)
        self.restored = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ResumableModule)
        position, signum = pl_module.position, _asked_to_stop(trainer)
        due = position > 0 and position % self.every == 0
        if signum or due or batch_idx + 1 == trainer.num_training_batches:
            pl_module.check_parameters()
            self._save(trainer)
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
        self._save(trainer)
        signum = _asked_to_stop(trainer)
        StopRequest.defer(deferred=False)
        if signum:
            StopRequest.leave(signum, together=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        StopRequest.defer(deferred=False)
        StopRequest.unobserved()

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not self.path.parent.is_dir():
            raise EnvironmentFailure(
                f"the folder {shown(self.path.parent)} was removed while the run was writing to it"
            )
        trainer.save_checkpoint(self.path, weights_only=False)

    # -- what is in a checkpoint --------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_FINGERPRINT] = self.fingerprint(trainer)
        checkpoint["lightning_nas_seconds"] = self.seconds
        checkpoint["lightning_nas_rows"] = [logger.table.position() for logger in _tables(trainer)]
        # Lightning counts the batch in hand as done when it restarts, and would shift the axis of every logger by one.
        if trainer.training and trainer.fit_loop.epoch_loop.batch_progress.current.ready > _done(trainer):
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"][_STEPPED] -= 1

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self._verified:
            self.verify(trainer, checkpoint)
        self._began -= checkpoint["lightning_nas_seconds"]
        for logger, rows in zip(_tables(trainer), checkpoint["lightning_nas_rows"], strict=False):
            go_on(trainer, logger.table, rows)

    def verify(self, trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was made under other conditions, or warn of it, before it is loaded.

        Raises:
            CheckpointError: the conditions changed; the message names them.
        """
        self._verified = True
        check_form(checkpoint)
        if changed := changes(checkpoint, self.fingerprint(trainer)):
            if not self.allow_inexact:
                raise CheckpointError(f"{changed}; resume.allow_inexact=true resumes nevertheless")
            self.warn(f"inexact resume: {changed}")

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


def fit(trainer: pl.Trainer, module: pl.LightningModule, checkpoint: Path | None, **data: Any) -> None:
    """``Trainer.fit`` from a checkpoint, for a Trainer with :class:`ExactCheckpoint`.

    Args:
        trainer: of the training.
        module: to train.
        checkpoint: file to resume from; None for a new training.
        data: further arguments of ``Trainer.fit``.

    Raises:
        CheckpointError: the content of the checkpoint is not what the parts of this training saved.
    """
    options: dict[str, Any] = {**data, "ckpt_path": checkpoint, "weights_only": True}
    try:
        trainer.fit(module, **options)
    except NasError:
        raise
    except Exception as reason:
        if checkpoint is None or ExactCheckpoint.of(trainer).restored:
            raise
        log.debug("the checkpoint could not be restored", exc_info=True)
        said = f"{type(reason).__name__}: {shown(' '.join(str(reason).split()), 200)}"
        raise CheckpointError(f"the checkpoint {shown(checkpoint)} is malformed: {said}") from None


def go_on(
    trainer: pl.Trainer,
    table: CSVTable,
    position: Mapping[str, Any] | int,
    again: Callable[[], list[dict[str, Any]] | None] = lambda: None,
) -> None:
    """Cut a table back to the rows that the checkpoint knows; with ``allow_inexact`` to those of them that are there.

    If the checkpoint belongs to another folder, the table is taken from there.

    Args:
        trainer: resumes.
        table: one of its tables.
        position: of the table in the checkpoint.
        again: makes the rows from what else is known, for a damaged file; None if they are known from nowhere.

    Raises:
        CheckpointError: rows are missing or changed.
    """
    exact = next((c for c in trainer.callbacks if isinstance(c, ExactCheckpoint)), None)  # type: ignore[attr-defined]
    warn = rank_zero_warn if exact is None else exact.warn
    beside = beside_checkpoint(trainer, table.path.name)
    if beside is not None and not table.path.exists():
        replace_file(table.path, beside.read_bytes())
    try:
        table.cut(position)
    except CheckpointError as reason:
        if (rows := again()) is not None:
            table.write(rows)
            if (
                isinstance(position, int)
                or table.position().items() >= {k: position[k] for k in ("rows", "sha256")}.items()
            ):
                warn(f"{shown(table.path)} was damaged and is written again")
                return
        if exact is None or not exact.allow_inexact:
            raise CheckpointError(f"{reason}; resume.allow_inexact=true resumes with what is there") from None
        warn(f"inexact resume: {reason}")
        table.cut(position, exact=False)


def _same_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("rows", "sha256"))


def check_form(checkpoint: Any) -> None:
    """Refuse a checkpoint whose parts are of other types than this library and Lightning write.

    Raises:
        CheckpointError: names the part.

    Example:
        >>> check_form({"epoch": "many"})
        Traceback (most recent call last):
            ...
        lightning_nas.errors.CheckpointError: the checkpoint is malformed: it has no state_dict
    """
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"the checkpoint is malformed: it is {shown(checkpoint)}")
    if missing := [name for name in _NEEDED if name not in checkpoint]:
        raise CheckpointError(f"the checkpoint is malformed: it has no {missing[0]}")
    state = checkpoint["lightning_nas"]
    parts = checkpoint | ({f"lightning_nas.{name}": state[name] for name in state} if isinstance(state, dict) else {})
    for name, legal in _FORM.items():
        if name in parts and not legal(parts[name]):
            raise CheckpointError(f"the checkpoint is malformed: {name} is {shown(parts[name])}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_map(value: Any, of: type = object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, of) for k, v in value.items())


def _is_position(value: Any) -> bool:
    """Whether it is the position of a table; a number in checkpoints of 0.1."""
    return _is_count(value) or (
        isinstance(value, dict)
        and all(_is_count(value.get(name, 0)) for name in ("rows", "bytes"))
        and isinstance(value.get("sha256"), str)
        and ("rows" in value or "bytes" in value)
    )


def _counts(loops: Mapping[str, Any]) -> bool:
    """Whether the counters of Lightning's loops are counts, at any depth.

    Lightning adds 1 to ``_batches_that_stepped`` when it resumes inside a batch: saved in the first batch, it is -1.
    """
    return all(
        _is_count(value + (name == _STEPPED) if type(value) is int else value)
        if name in _COUNTERS
        else not isinstance(value, dict) or _counts(value)
        for name, value in loops.items()
    )


def _is_callback(value: Any) -> bool:
    rows = value.get("rows", {}) if isinstance(value, dict) else None
    return isinstance(rows, dict) and all(map(_is_position, rows.values()))


_STEPPED = "_batches_that_stepped"
_COUNTERS = ("ready", "started", "processed", "completed", _STEPPED)
_NEEDED = ("state_dict", "loops", "callbacks", "lightning_nas", "lightning_nas_seconds", "lightning_nas_rows")
_FORM: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_count,
    "global_step": _is_count,
    "state_dict": lambda value: _is_map(value, torch.Tensor),
    "callbacks": lambda value: _is_map(value) and all(map(_is_callback, value.values())),
    "loops": lambda value: _is_map(value, dict) and _counts(value),
    "optimizer_states": lambda value: isinstance(value, list) and all(map(_is_map, value)),
    "lr_schedulers": lambda value: isinstance(value, list) and all(map(_is_map, value)),
    _FINGERPRINT: lambda value: _is_map(value, str),
    "lightning_nas": _is_map,
    "lightning_nas.position": _is_count,
    "lightning_nas.weights_steps": _is_count,
    "lightning_nas.arch_steps": _is_count,
    "lightning_nas.pending": _is_count,
    "lightning_nas.memories": lambda value: _is_map(value, list),
    "lightning_nas_seconds": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "lightning_nas_rows": lambda value: isinstance(value, list) and all(map(_is_position, value)),
    "lightning_nas_events": _is_count,
    "lightning_nas_ledger": _is_position,
    "lightning_nas_index": lambda value: _is_position(value) and "rows" in value,
    "lightning_nas_ledger_text": lambda value: isinstance(value, str),
}


def beside_checkpoint(trainer: pl.Trainer, name: str) -> Path | None:
    """The file of this name in the folder of the run that made the checkpoint; None if that is this run's folder."""
    folder = Path(trainer.ckpt_path or ".").resolve().parent.parent
    file = folder / name
    return file if folder != Path(trainer.default_root_dir).resolve() and file.is_file() else None


def changes(checkpoint: dict[str, Any], conditions: dict[str, str], *, known_so_far: bool = False) -> str:
    """Describe the differences between the conditions of a checkpoint and the present ones; empty if there are none.

    Args:
        checkpoint: content of the checkpoint.
        conditions: the present conditions.
        known_so_far: whether ``conditions`` is a part of all conditions; only that part is compared.
    """
    then = checkpoint.get(_FINGERPRINT, {})
    if known_so_far:
        then = {name: then.get(name) for name in conditions if name != CONTENTS or name in then}
    if CONTENTS not in then:
        conditions = {name: value for name, value in conditions.items() if name != CONTENTS}
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
    listed = [f"{_cut(name)} was {_cut(then.get(name))}, is {_cut(now.get(name))}" for name in changed[:3]]
    return ", ".join([*listed, "..."] if len(changed) > 3 else listed)


def _cut(text: str | None) -> str:
    """A condition as part of an error message; it may come from a file that was changed."""
    plain = "None" if text is None else ascii(text)[1:-1]
    return plain if len(plain) <= _LENGTH else plain[: _LENGTH - 3] + "..."


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
