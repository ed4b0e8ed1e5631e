"""From a checked configuration to a run: the only place where its entries are made into objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.callbacks import Callback

from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.callbacks.short_warm_up import ShortWarmUp
from lightning_nas.cli.before_data import check_before_data, known_space
from lightning_nas.cli.config.check import check
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.cli.names import chosen
from lightning_nas.data.base import SearchData
from lightning_nas.data.given import as_search_data
from lightning_nas.errors import ConfigError, NasError
from lightning_nas.experiment.folder import check_free
from lightning_nas.experiment.lengths import check_schedule, check_search
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.run import Run
from lightning_nas.experiment.settings import Names, Resuming, Retraining
from lightning_nas.experiment.trainer import built, check_trainer, in_one_line
from lightning_nas.export.names import check_formats
from lightning_nas.processes import check_processes
from lightning_nas.spaces.sizes import square_alone, takes_any_sides
from lightning_nas.strategies.target import NAMES
from lightning_nas.tasks.base import Task
from lightning_nas.trials.engines.base import Engine

log = logging.getLogger(__name__)


def build(config: DictConfig) -> Run:
    """Read the data, fill in the sizes the configuration left to it, and make the parts of the run.

    Args:
        config: checked once; ``config.dataset`` gets the sizes of the data.

    Raises:
        InputError: data, space or sizes do not go together.
    """
    check_free(Path(config.paths.output), config.stages, config.ckpt_path)
    check_counts(config)
    if "search" not in config.stages and "retrain" in config.stages and config.architecture is None:
        raise ConfigError("stages=[retrain] needs architecture=FILE or architecture=ZOO_NAME")
    parts, callbacks = parts_of(config), list[Callback]()
    if "search" in config.stages:
        parts.check()
        callbacks = callbacks_of(config)
        check_trainer(instantiate(config.trainer), callbacks, trials=parts.trains_children)
    elif "retrain" in config.stages:
        built(instantiate(config.trainer), logger=False)
    settings = settings_of(config, parts)
    strategy, retraining = instantiate(config.strategy), settings["retraining"]
    warnings = [*check_lengths(config, strategy, callbacks, retraining), *_unused_data(config, parts)]
    check_sides(config.search_space)
    space, described = known_space(config), OmegaConf.to_yaml(config.search_space, resolve=True)
    check_before_data(config, parts, retraining, settings["target"], strategy, callbacks, space=space)
    data = read_data(config, for_search=not alone(config.stages))
    fill_sizes(config, data)
    check_sides(config.search_space)
    check(config)  # once more, with the sizes
    if space is None or described != OmegaConf.to_yaml(config.search_space, resolve=True):
        space = instantiate(config.search_space)
    return Run(
        folder=Path(config.paths.output),
        data=data,
        space=space,
        task=instantiate(config.task),
        strategy=strategy,
        trainer=instantiate(config.trainer),
        write_record=OmegaConf.to_yaml(config, resolve=True),
        record=plain_record(config),
        names=names_of(config, parts),
        table=instantiate(config.latency_table),
        engine=engine_of(config) if parts.trains_children else None,
        warnings=warnings,
        **settings,
    )


def alone(stages: Any) -> bool:
    """Whether one network is trained, and none compared with others.

    >>> alone(["retrain", "export"]), alone(["search", "retrain"]), alone(["ranking"])
    (True, False, False)
    """
    return isinstance(stages, Sequence) and not {"search", "ranking"} & {*stages}


def check_counts(config: DictConfig) -> None:
    """Refuse more threads or workers than the machine has cores for.

    Raises:
        ConfigError: names the key.
    """
    for key in ("threads", "dataset.num_workers"):
        count = OmegaConf.select(config, key)
        check_processes(f"{key}={count}", count if isinstance(count, int) else 1)


def made(node: DictConfig, key: str) -> Any:
    """The object of an entry; a constructor that is not of this library refuses its arguments in one line.

    Raises:
        ConfigError: names the key.
    """
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, NasError) or str(node._target_).startswith("lightning_nas."):
            raise
        raise ConfigError(f"{key}: {node._target_} refuses its arguments: {in_one_line(cause)}") from error


def callbacks_of(config: DictConfig) -> list[Callback]:
    """The callbacks of the search."""
    return [made(node, f"callbacks.{name}") for name, node in (config.callbacks or {}).items() if node]


def check_lengths(
    config: DictConfig,
    strategy: Callable[..., Any],
    callbacks: Sequence[Callback],
    retraining: Retraining,
    trainer: Callable[..., Any] | None = None,
) -> list[str]:
    """Refuse lengths that do not agree, before data are read.

    Args:
        config: of the run.
        strategy: makes the strategy.
        callbacks: of the search.
        retraining: settings of the retraining.
        trainer: what a person gave in the place of the configuration's; a search whose epochs are not among its
            keywords checks itself when it begins, and its schedules are not known before.

    Returns:
        What is legal and yet doubtful, in words; it is logged.

    Raises:
        ConfigError: names the keys, what came and what is legal.
    """
    said = list[str]()
    epochs = (config.trainer if trainer is None else getattr(trainer, "keywords", {})).get("max_epochs")
    if "search" in config.stages and (trainer is None or epochs is not None):
        short = [callback.longest_warm_up for callback in callbacks if isinstance(callback, ShortWarmUp)]
        said += check_search(strategy, epochs, min(short, default=None), child=config.get("child"))
        for callback in callbacks:
            if isinstance(callback, SearchHealth) and isinstance(epochs, int):
                callback.check_length(epochs)
    if "retrain" in config.stages:
        doubt = check_schedule("retrain.scheduler", retraining.scheduler, retraining.epochs, "retrain.epochs")
        said += [doubt] if doubt else []
    for doubt in said:
        log.warning(doubt)
    return said


def settings_of(config: DictConfig, parts: Parts) -> dict[str, Any]:
    """The settings of a run that belong to none of its parts, as keyword arguments of Run."""
    ranking = config.ranking
    return {
        "seed": int(config.seed),
        "threads": config.threads,
        "stages": tuple(config.stages),
        "target": target_of(config),
        "trains_nothing": parts.looks_up,
        "callbacks": lambda: callbacks_of(config),
        "progress": bool((config.callbacks or {}).get("progress")),
        "loggers": [instantiate(node, _partial_=True) for node in (config.logger or {}).values() if node],
        "retraining": retraining_of(config),
        "retrain_task": _retrain_task(config),
        "ranking": instantiate(ranking) if ranking is not None else None,
        "resuming": Resuming(**OmegaConf.to_container(config.resume)),  # type: ignore[arg-type]
        "checkpoint": config.ckpt_path,
        "formats": _formats(config),
        "published": published_of(config),
    }


def target_of(config: DictConfig) -> dict[str, float] | None:
    """The costs of ``target``, ``target_ms``, ``target_macs`` and ``target_params`` by what they are of; None for none.

    Raises:
        ConfigError: a target without a search.
    """
    given = {name: float(config[key]) for name, key in NAMES.items() if config[key] is not None}
    if given and "search" not in config.stages:
        raise ConfigError(f"{NAMES[next(iter(given))]} bounds what a search answers; legal with stages=[search, ...]")
    return given or None


def read_data(config: DictConfig, *, for_search: bool) -> SearchData:
    """The data of ``config.dataset``, set up; without a search they may be few."""
    data = as_search_data(instantiate(config.dataset), config.seed)
    data.for_search = for_search
    if "task" in config:  # one for latencies alone need not have it
        made = get_object(config.task._target_)  # a class, or a trusted function
        data.expect(getattr(made if isinstance(made, type) else instantiate(config.task), "targets", "classes"))
    data.setup("fit")
    return data


def fill_sizes(config: DictConfig, data: SearchData) -> None:
    """Set the sizes that ``config.dataset`` left to the data."""
    with open_dict(config):
        for name, value in data.found.items():
            if config.dataset.get(name) is None:
                config.dataset[name] = value


def check_sides(space: DictConfig) -> None:
    """Refuse images of two sides where the networks are for square ones.

    Raises:
        ConfigError: names the spaces that take them.
    """
    size = space.get("image_size")
    if OmegaConf.is_list(size) and len(size) == 2 and not takes_any_sides(get_class(space._target_)):
        raise ConfigError(square_alone(f"search_space={space.get('name', space._target_)}", *size))


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
        judge=get_class(config.child._target_) if config.child and "_target_" in config.child else None,
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
    return Names(strategy, dataset, hydra.job.override_dirname or None, group, in_sweep, list(hydra.overrides.task))


def retraining_of(config: DictConfig) -> Retraining:
    """``config.retrain`` with its factories made."""
    settings = {str(name): value for name, value in config.retrain.items() if name not in ("optimizer", "scheduler")}
    settings["from_"] = settings.pop("from", "scratch")
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


def _formats(config: DictConfig) -> list[str] | None:
    formats = None if config.export.formats is None else [str(name) for name in config.export.formats]
    if formats and "export" in config.stages:
        check_formats(formats)
    return formats


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


def _unused_data(config: DictConfig, parts: Parts) -> Iterator[str]:
    """A data set that was asked for, and of which a table knows nothing."""
    asked = [text for text in _overrides() if text.startswith("dataset=")]
    if asked and parts.looks_up and "retrain" not in config.stages:
        known = str(config.engine.get("dataset", ""))
        if asked[-1] != f"dataset={known}":
            yield (
                f"{asked[-1]}: no network is trained on it, engine=table looks up what was measured on {known}; "
                "engine=local trains"
            )


def _overrides() -> Sequence[str]:
    return HydraConfig.get().overrides.task if HydraConfig.initialized() else []


def _child_asked_for() -> str | None:
    """The option of ``child`` on the command line, which strategies set and tables remove; None for none."""
    said = (override.removeprefix("child=") for override in _overrides() if override.startswith("child="))
    return next((child for child in said if child not in ("none", "null")), None)
