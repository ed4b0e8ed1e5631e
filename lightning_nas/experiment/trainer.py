"""Lightning's Trainer as every stage of a run uses it: exact checkpoints, ``metrics.csv``, the run's loggers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.loggers import make_loggers
from lightning_nas.experiment.settings import conditions_of
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.metrics import MetricsFile

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run


def make_trainer(run: Run, stage: str, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """The Trainer of one stage.

    Args:
        run: the run.
        stage: folder inside the run's own and prefix of logged names; "" is the search.
        callbacks: besides that of the checkpoints.
        options: of the Trainer; ``conditions`` are of :class:`~lightning_nas.training.exact.ExactCheckpoint`.

    Raises:
        ConfigError: several processes in a sweep that runs in one process.
    """
    folder, resuming = run.folder / stage, run.resuming
    known = {**conditions(run.record), **options.pop("conditions", {})}
    exact = ExactCheckpoint(
        folder / "checkpoints",
        every=resuming.save_every,
        allow_inexact=resuming.allow_inexact,
        conditions=known,
    )
    trainer = run.trainer(
        callbacks=[exact, *callbacks],
        logger=[MetricsFile(folder / "metrics.csv"), *make_loggers(run.loggers, run.names, run.record, stage)],
        plugins=[AtomicCheckpointIO(keep=resuming.keep)],
        default_root_dir=folder,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        **options,
    )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    starts_others = trainer.world_size > 1 and environment and not environment.creates_processes_externally
    if starts_others and run.names.in_sweep:
        raise ConfigError(
            f"trainer.devices={run.record['trainer'].get('devices')} in a sweep: each process would run the whole "
            "sweep again; run the jobs one by one, or start the sweep with torchrun"
        )
    return trainer


def stage_seconds(trainer: pl.Trainer) -> float:
    """Duration of a stage, all attempts together."""
    return round(ExactCheckpoint.of(trainer).seconds, 3)


def conditions(record: dict[str, Any]) -> dict[str, str]:
    """The settings that change the bits of a result, as text by full key."""
    return dict(_flat(conditions_of(record)))


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)
