"""From a checked configuration to a run: the only place where its entries are made into objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_nas.cli.config.check import check
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.cli.names import chosen
from lightning_nas.data.base import SearchData
from lightning_nas.data.given import as_search_data
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.run import Run
from lightning_nas.experiment.settings import Names, Resuming, Retraining
from lightning_nas.tasks.base import Task
from lightning_nas.trials.engines.base import Engine


def build(config: DictConfig) -> Run:
    """Read the data, fill in the sizes the configuration left to it, and make the parts of the run.

    Args:
        config: checked once; ``config.dataset`` gets the sizes of the data.

    Raises:
        InputError: data, space or sizes do not go together.
    """
    parts = parts_of(config)
    if "search" in config.stages:
        parts.check()
    data = as_search_data(instantiate(config.dataset), config.seed)
    data.setup("fit")
    fill_sizes(config, data)
    check(config)  # once more, with the sizes
    space = instantiate(config.search_space)
    return Run(
        folder=Path(config.paths.output),
        data=data,
        space=space,
        task=instantiate(config.task),
        strategy=instantiate(config.strategy),
        trainer=instantiate(config.trainer),
        write_record=OmegaConf.to_yaml(config, resolve=True),
        record=plain_record(config),
        names=names_of(config, parts),
        table=instantiate(config.latency_table),
        engine=engine_of(config) if parts.trains_children else None,
        **settings_of(config, parts),
    )


def settings_of(config: DictConfig, parts: Parts) -> dict[str, Any]:
    """The settings of a run that belong to none of its parts, as keyword arguments of Run."""
    ranking = config.ranking
    return {
        "seed": int(config.seed),
        "threads": config.threads,
        "stages": tuple(config.stages),
        "trains_nothing": parts.looks_up,
        "callbacks": lambda: [instantiate(node) for node in (config.callbacks or {}).values() if node],
        "progress": bool((config.callbacks or {}).get("progress")),
        "loggers": [instantiate(node, _partial_=True) for node in (config.logger or {}).values() if node],
        "retraining": retraining_of(config),
        "retrain_task": _retrain_task(config),
        "ranking": instantiate(ranking) if ranking is not None else None,
        "resuming": Resuming(**OmegaConf.to_container(config.resume)),  # type: ignore[arg-type]
        "checkpoint": config.ckpt_path,
        "published": published_of(config),
    }


def fill_sizes(config: DictConfig, data: SearchData) -> None:
    """Set the sizes that ``config.dataset`` left to the data."""
    with open_dict(config):
        for name, value in data.found.items():
            if config.dataset.get(name) is None:
                config.dataset[name] = value


def parts_of(config: DictConfig) -> Parts:
    """The classes that the configuration names."""
    space = config.search_space
    return Parts(
        strategy=get_class(config.strategy._target_),
        space=get_class(space._target_),
        space_name=str(space.get("name", space._target_)),
        engine=get_class(config.engine._target_) if config.engine else None,
        child=bool(config.child),
        child_named=_child_asked_for(),
        callbacks={str(n): get_class(node._target_) for n, node in (config.callbacks or {}).items() if node},
    )


def plain_record(config: DictConfig) -> dict[str, Any]:
    """The configuration as dicts, lists and values."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}


def names_of(config: DictConfig, parts: Parts) -> Names:
    """The names of the chosen options: Hydra's, or those of the presets that name the same classes."""
    strategy, dataset = chosen("strategy", config.strategy), chosen("dataset", config.dataset)
    if "retrain" not in config.stages and parts.looks_up:
        dataset = str(config.engine.get("dataset", dataset))
    if not HydraConfig.initialized():
        return Names(strategy, dataset)
    hydra = HydraConfig.get()
    in_sweep = hydra.mode == RunMode.MULTIRUN
    group = Path(hydra.sweep.dir).name if in_sweep else None
    return Names(strategy, dataset, hydra.job.override_dirname or None, group, in_sweep)


def retraining_of(config: DictConfig) -> Retraining:
    """``config.retrain`` with its factories made."""
    settings = {str(name): value for name, value in config.retrain.items() if name not in ("optimizer", "scheduler")}
    scheduler = config.retrain.scheduler
    return Retraining(
        optimizer=instantiate(config.retrain.optimizer),
        scheduler=instantiate(scheduler) if scheduler else None,
        **settings,
    )


def _retrain_task(config: DictConfig) -> Task | None:
    smoothing = config.retrain.label_smoothing
    if smoothing is None or "retrain" not in config.stages:
        return None
    if "label_smoothing" not in config.task:
        raise ConfigError("retrain.label_smoothing: the task has none; legal: null")
    task: Task = instantiate(config.task, label_smoothing=smoothing)
    return task


def engine_of(config: DictConfig) -> Callable[[], Engine]:
    """Makes the engine of the configuration with the job of its children."""

    def make() -> Engine:
        engine: Engine = instantiate(config.engine)(ConfiguredJob(plain_record(config)))
        return engine

    return make


def published_of(config: DictConfig) -> str | None:
    """The file of a published table, where the configuration names one."""
    named = (OmegaConf.select(config, key) for key in ("callbacks.rank_check.truth.path", "engine.path"))
    return next((str(path) for path in named if path is not None), None)


def _child_asked_for() -> str | None:
    """The option of ``child`` on the command line, which strategies set and tables remove; None for none."""
    asked = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    said = (override.removeprefix("child=") for override in asked if override.startswith("child="))
    return next((child for child in said if child not in ("none", "null")), None)
