"""Lightning's Trainer as every stage of a run uses it: exact checkpoints, ``metrics.csv``, the run's loggers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from lightning_nas.errors import ConfigError, NasError, shown
from lightning_nas.experiment.folder import is_first_process
from lightning_nas.experiment.loggers import make_loggers
from lightning_nas.experiment.settings import conditions_of
from lightning_nas.processes import check_processes
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.metrics import MetricsFile

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run


def make_trainer(
    run: Run, stage: str, callbacks: list[pl.Callback], *, first: Sequence[pl.Callback] = (), **options: Any
) -> pl.Trainer:
    """The Trainer of one stage.

    Args:
        run: the run.
        stage: folder inside the run's own and prefix of logged names; "" is the search.
        callbacks: besides that of the checkpoints.
        first: callbacks whose work at the end of the training is part of the last checkpoint.
        options: of the Trainer; ``conditions`` are of :class:`~lightning_nas.training.exact.ExactCheckpoint`.

    Raises:
        ConfigError: Lightning refuses its settings, or several processes in a sweep that runs in one process.
    """
    folder, resuming = run.folder / stage, run.resuming
    known = {**run.conditions, **options.pop("conditions", {})}
    exact = ExactCheckpoint(
        folder / "checkpoints",
        every=resuming.save_every,
        allow_inexact=resuming.allow_inexact,
        conditions=known,
        warn=run.warn,
    )
    trainer = built(
        run.trainer,
        callbacks=[*first, exact, *callbacks],
        logger=[MetricsFile(folder / "metrics.csv"), *_loggers(run, stage)],
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


def built(make: Callable[..., pl.Trainer], **options: Any) -> pl.Trainer:
    """A Trainer, with Lightning's refusals in one line.

    Raises:
        ConfigError: no such device, strategy, profiler, ..., or flags that exclude each other.
    """
    try:
        return make(**options)
    except NasError:
        raise
    except Exception as reason:  # Lightning refuses by exceptions of many kinds
        slurm = "; SLURM_NTASKS is set: start the run with srun, or unset it" if "SLURM_NTASKS" in os.environ else ""
        asked = {**getattr(make, "keywords", {}), **options}.get("accelerator", "auto")
        if asked != "auto" and not _is_here(asked):
            legal = ", ".join(["auto", *(name for name in AcceleratorRegistry if _is_here(name))])
            raise ConfigError(
                f"trainer.accelerator={shown(asked)}: this machine has none that Lightning can use; legal here: {legal}"
            ) from reason
        raise ConfigError(f"trainer: Lightning refuses its settings: {in_one_line(reason)}{slurm}") from reason


def _is_here(accelerator: Any) -> bool:
    """Whether Lightning knows an accelerator of this name, or instance of one, and the machine has it."""
    if accelerator == "gpu":
        return _is_here("cuda") or _is_here("mps")
    if isinstance(accelerator, str):
        accelerator = AcceleratorRegistry[accelerator]["accelerator"] if accelerator in AcceleratorRegistry else None
    return accelerator is not None and bool(accelerator.is_available())


def check_trainer(make: Callable[..., pl.Trainer], callbacks: Sequence[pl.Callback], *, trials: bool) -> None:
    """Refuse, before data are read, a Trainer that cannot be made or cannot run a search.

    Args:
        make: makes the Trainer from what a stage adds.
        callbacks: of the search.
        trials: whether the search trains candidates one by one.

    Raises:
        ConfigError: says which setting.
    """
    bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    trainer = built(
        make, callbacks=list(callbacks), logger=False, plugins=[AtomicCheckpointIO()], enable_progress_bar=bar
    )
    strategy, processes = trainer.strategy, trainer.world_size
    if trials and processes > 1:
        raise ConfigError(
            f"trainer.devices: a search by trials runs in one process, got {processes}; spread its children with "
            "engine.slots=..., or over machines with engine=ray"
        )
    check_processes(f"trainer.devices={trainer.num_devices}", trainer.num_devices)
    if processes == 1 and not is_first_process():
        raise ConfigError(
            "trainer.devices=1, and this is not the only process of its job: each would search the same in the same "
            "folder; use srun --ntasks=1, or trainer=ddp with trainer.devices and trainer.num_nodes as in the job"
        )
    if isinstance(strategy, DDPStrategy):
        if not trials and strategy._ddp_kwargs.get("find_unused_parameters") is not True:
            raise ConfigError(
                f"trainer.strategy: a search in {processes} processes leaves parameters without a gradient, which "
                "plain DDP waits for; use trainer=ddp trainer.devices=..."
            )
    elif not isinstance(strategy, SingleDeviceStrategy):
        raise ConfigError(
            f"trainer.strategy: {type(strategy).__name__} is refused: a search needs all of the supernet on every "
            "device; legal: auto (one device) or trainer=ddp"
        )


def _loggers(run: Run, stage: str) -> list[Any]:
    try:
        made = make_loggers(run.loggers, run.names, run.record, stage)
        for logger in made:
            if isinstance(logger, TensorBoardLogger):
                _ = logger.experiment  # it refuses arguments only when it is first written to
        return made
    except (ImportError, TypeError, ValueError) as reason:  # a package that is not installed, a wrong argument
        raise ConfigError(f"logger: it cannot be made: {in_one_line(reason)}") from reason


def in_one_line(reason: BaseException) -> str:
    """The text of an error of another library."""
    text = " ".join(str(reason).split())
    return shown(f"{type(reason).__name__} {text}" if isinstance(reason, KeyError) or not text else text, 300)


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
