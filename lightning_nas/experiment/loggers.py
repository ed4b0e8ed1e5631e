"""Where a run's figures go besides its CSV files: the loggers of the configuration, one W&B run for all stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

_WANDB = "WandbLogger"


def make_loggers(config: DictConfig, prefix: str = "") -> list[Any]:
    """The loggers of the configuration.

    Args:
        config: of the run.
        prefix: what the names of a later stage's values begin with; such a stage goes on in the run's W&B run.
    """
    return [_make(node, config, prefix) for node in (config.logger or {}).values() if node]


def _make(node: DictConfig, config: DictConfig, prefix: str) -> Any:
    options: dict[str, Any] = {"prefix": prefix} if prefix else {}
    if node._target_.endswith(_WANDB):
        options |= {"experiment": _wandb_run()} if _wandb_run() else _named(node, config)
    logger = instantiate(node, _partial_=True)(**options)
    logger.LOGGER_JOIN_CHAR = "/"
    if node._target_.endswith(_WANDB):
        logger._wandb_init.pop("anonymous", None)  # Lightning always passes it, and W&B always warns of it
    return logger


def _named(node: DictConfig, config: DictConfig) -> dict[str, Any]:
    """W&B runs of one sweep share a group and are named by their overrides."""
    hydra = HydraConfig.get()
    return {
        "name": node.name or (hydra.job.override_dirname or None),
        "group": node.group or (Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None),
        "job_type": hydra.runtime.choices.get("strategy"),
        "config": OmegaConf.to_container(config, resolve=True),
    }


def tell(config: DictConfig, result: dict[str, Any]) -> None:
    """The run's figures, as ``result/...``."""
    figures = {name: value for name, value in result.items() if isinstance(value, (int, float))}
    for logger in make_loggers(config, "result"):
        logger.log_metrics(figures)


@contextmanager
def closed() -> Iterator[None]:
    """Close the W&B run at the end, well or badly: else the next run of this process would go on writing into it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        if run := _wandb_run():
            run.finish(code)


def _wandb_run() -> Any:
    """The one of this process that is open; W&B is imported by those who use it alone."""
    return getattr(sys.modules.get("wandb"), "run", None)
