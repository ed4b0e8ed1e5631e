"""Loggers besides the CSV files of a run; one W&B run for all its stages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.experiment.settings import Names

LoggerFactory = Callable[..., Any]
"""Makes a Lightning logger; takes ``prefix``, and for W&B the options of :func:`wandb_options`."""


def make_loggers(factories: Sequence[Any], names: Names, record: dict[str, Any], prefix: str = "") -> list[Any]:
    """The loggers of one stage.

    Args:
        factories: make the loggers (:data:`LoggerFactory`); a logger is used as it is.
        names: of the run, for W&B.
        record: the run's settings, which W&B shows.
        prefix: prefix of all logged names; a stage with a prefix continues the run's W&B run.
    """
    return [_make(factory, names, record, prefix) for factory in factories]


def _make(factory: Any, names: Names, record: dict[str, Any], prefix: str) -> Any:
    if not callable(factory):  # a logger as it is, of a person's own
        return factory
    options: dict[str, Any] = {"prefix": prefix} if prefix else {}
    made = factory.func if isinstance(factory, partial) else factory
    is_wandb = getattr(made, "__name__", "") == "WandbLogger"
    if is_wandb:
        options |= {"experiment": _wandb_run()} if _wandb_run() else _wandb_options(factory, names, record)
    logger = factory(**options)
    logger.LOGGER_JOIN_CHAR = "/"
    if is_wandb:
        logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B always warns of it
    return logger


def _wandb_options(factory: LoggerFactory, names: Names, record: dict[str, Any]) -> dict[str, Any]:
    """Runs of one sweep share a group and are named by their overrides."""
    given = factory.keywords if isinstance(factory, partial) else {}
    return {
        "name": given.get("name") or names.title,
        "group": given.get("group") or names.group,
        "job_type": names.strategy,
        "config": record,
    }


def log_model(logger: Any, file: Path, figures: Mapping[str, Any]) -> None:
    """Give W&B the trained network as an artifact of the type "model"; other loggers take none.

    The file stays where it is until W&B sends it.

    Args:
        logger: one of :func:`make_loggers`.
        file: of the trained network.
        figures: of the network, which W&B shows beside it.
    """
    if type(logger).__name__ != "WandbLogger":
        return
    import wandb

    run = logger.experiment
    artifact = wandb.Artifact(f"network-{run.id}", type="model", metadata=dict(figures))
    artifact.add_file(str(file.resolve()), policy="immutable")
    run.log_artifact(artifact)


@contextmanager
def closed() -> Iterator[None]:
    """Close the W&B run at the end, well or badly: else the next run of this process would go on writing into it."""
    before, code = _wandb_run(), 1
    try:
        yield
        code = 0
    finally:
        if (run := _wandb_run()) and run is not before:
            run.finish(code)


def _wandb_run() -> Any:
    """The open W&B run of this process; W&B itself is only imported by its logger."""
    return getattr(sys.modules.get("wandb"), "run", None)
