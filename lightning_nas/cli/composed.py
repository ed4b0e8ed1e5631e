"""A configuration composed from names, with objects in the place of some of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger

from lightning_nas.cli import presets
from lightning_nas.cli.before_data import check_before_data, known_space
from lightning_nas.cli.build import (
    alone,
    callbacks_of,
    check_counts,
    check_lengths,
    engine_of,
    fill_sizes,
    parts_of,
    plain_record,
    retraining_of,
    settings_of,
)
from lightning_nas.cli.config.check import check
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.configuration import configured
from lightning_nas.cli.described import describe
from lightning_nas.cli.names import preset_of
from lightning_nas.data.base import SearchData
from lightning_nas.data.given import as_search_data
from lightning_nas.data.module import ImageData
from lightning_nas.errors import ConfigError, shown
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.process import quiet
from lightning_nas.experiment.settings import Names, Retraining
from lightning_nas.experiment.trainer import check_trainer
from lightning_nas.latency.sources import NoTable
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.tasks.base import Task
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.job import ObjectsJob

Strategy = SearchModule | TrialSearch
_OBJECTS: Mapping[str, tuple[tuple[type, ...], str]] = {  # the parts that may be objects, and in words
    "latency_table": ((LatencyTable,), "a LatencyTable"),
    "task": ((Task,), "a Task"),
    "trainer": ((pl.Trainer,), "what makes a Trainer"),
    "callbacks": ((pl.Callback,), "a list of callbacks"),
    "logger": ((Logger,), "a logger or a list of them"),
}
_GROUPS = (
    "latency_table",
    "task",
    "trainer",
    "retrain",
    "callbacks",
    "logger",
    "engine",
    "child",
    "experiment",
    "debug",
)


class Composed:
    """A configuration composed for parts of which some are objects, and the run's parts made from both.

    Args:
        folder: of the run.
        data: a preset's name, or anything that :func:`~lightning_nas.data.given.as_search_data` takes.
        space: a preset's name, a search space, or None for the strategy's own.
        strategy: a preset's name, a strategy, its class, or a partial of it.
        seed: of everything random.
        settings: keys of the configuration; see :class:`lightning_nas.cli.python.Run`.

    Raises:
        InputError: something is no part of a run.
    """

    def __init__(
        self, folder: Path, data: Any, space: Any, strategy: Any, seed: int, settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.space, self.strategy = folder, space, strategy
        self.warnings = list[str]()
        self.known: SearchSpace | None = None  # the space, where it needs no sizes of the data
        self.objects = {key: value for key, value in settings.items() if _is_object(key, value)}
        self.for_search = not alone(settings.get("stages"))
        self.data = data if isinstance(data, str) else as_search_data(data, seed)
        if not isinstance(self.data, str | ImageData):
            _set_up(self.data, self.for_search)
        if isinstance(self.objects.get("trainer"), pl.Trainer):
            raise ConfigError(
                "trainer: got a Trainer, but every stage makes its own; legal: settings, e.g. trainer={'max_epochs': "
                "20}, or functools.partial(pl.Trainer, max_epochs=20)"
            )
        names = {
            "strategy": _preset(strategy),
            "search_space": space if isinstance(space, str) else None,
            "dataset": self.data if isinstance(self.data, str) else _carrier(self.data),
            **{key: value for key, value in settings.items() if key in _GROUPS and isinstance(value, str)},
        }
        preset = {key for key, value in settings.items() if key in _GROUPS and isinstance(value, str)}
        changes = {key: value for key, value in settings.items() if key not in {*preset, *self.objects}}
        searched = strategy.space if space is None and isinstance(strategy, Strategy) else space
        if not isinstance(space, str | SearchSpace | None):
            raise ConfigError(
                f"space: got {shown(space)}; legal: a preset's name, or a search space such as ln.FBNetSpace()"
            )
        _check_parts(changes, {"search_space": ("space", searched), "dataset": ("data", self.data)})
        self.config = compose_names({key: name for key, name in names.items() if name is not None})
        with open_dict(self.config):
            self.config.seed, self.config.paths.output = seed, str(folder)
            if not isinstance(self.data, str):
                late = isinstance(self.data, ImageData)  # read when all else is checked
                sizes = dict.fromkeys(("image_size", "channels", "num_classes")) if late else self.data.found
                self.config.dataset = {"_target_": self.config.dataset._target_, "seed": seed, **sizes}
            if isinstance(searched, SearchSpace):  # the preset's sizes are not its own, nor of its kind of data
                self.config.search_space = {"_target_": self.config.search_space._target_, "name": searched.name}
            given = getattr(self.objects.get("trainer"), "keywords", {})
            if "max_epochs" in given:
                self.config.trainer.max_epochs = given["max_epochs"]  # schedules of the search follow it
        _change(self.config, changes)

    def parts(self) -> dict[str, Any]:
        """The arguments of :class:`~lightning_nas.experiment.run.Run`."""
        check(self.config)
        callbacks = list(self.objects["callbacks"]) if "callbacks" in self.objects else callbacks_of(self.config)
        retraining, trainer = retraining_of(self.config), self.objects.get("trainer")
        check_counts(self.config)
        self.warnings = check_lengths(self.config, self._factory(), callbacks, retraining, trainer)
        classes = self._classes()
        if "search" in self.config.stages:
            classes.check()
            making = trainer or instantiate(self.config.trainer)
            with quiet():
                check_trainer(making, callbacks, trials=classes.trains_children)
        settings = settings_of(self.config, classes)
        if settings["target"] and isinstance(self.strategy, Strategy):
            raise ConfigError("target: the strategy is made already; pass target=... where it is made")
        self._check_before_data(classes, retraining, settings["target"], callbacks)
        made = self._made()
        if "callbacks" in self.objects:
            given = list(self.objects["callbacks"])
            bars = any(isinstance(callback, ProgressBar) for callback in given)
            settings |= {"callbacks": lambda: given, "progress": bars}
        if "logger" in self.objects:
            given_loggers = self.objects["logger"]
            settings["loggers"] = list(given_loggers) if isinstance(given_loggers, Sequence) else [given_loggers]
        record = self._record(made)
        return {
            "folder": self.folder,
            "record": record,
            "warnings": self.warnings,
            "write_record": OmegaConf.to_yaml(OmegaConf.create(record)),
            "names": Names(self._strategy_name(), self._data_name()),
            "engine": self._engine(made) if classes.trains_children else None,
            **settings,
            **made,
        }

    def _check_before_data(
        self, classes: Parts, retraining: Retraining, target: Mapping[str, float] | None, callbacks: list[pl.Callback]
    ) -> None:
        given = self.objects.get("latency_table")
        own = isinstance(self.strategy, Strategy)
        self.known = None if own or isinstance(self.space, SearchSpace) else known_space(self.config)
        space = self.space if isinstance(self.space, SearchSpace) else self.known
        source = NoTable() if own else given
        check_before_data(
            *(self.config, classes, retraining, target, self._factory(), callbacks), source=source, space=space
        )

    def _made(self) -> dict[str, Any]:
        data = self.data
        if isinstance(data, str):
            data = as_search_data(instantiate(self.config.dataset), self.config.seed)
        task = self.objects.get("task") or instantiate(self.config.task)
        data.expect(task.targets)
        _set_up(data, self.for_search)
        fill_sizes(self.config, data)
        check(self.config)
        strategy = self.strategy
        own = isinstance(strategy, Strategy)
        space = self.space
        if own and space is None:
            space = strategy.space
        if own and space is not strategy.space:
            raise ConfigError("strategy: it was made for another search space; pass its own, or none")
        return {
            "data": data,
            "space": space if isinstance(space, SearchSpace) else self.known or instantiate(self.config.search_space),
            "task": task,
            "strategy": self._factory(),
            "trainer": self.objects.get("trainer") or instantiate(self.config.trainer),
            "table": self._table(),
        }

    def _factory(self) -> Callable[..., Strategy]:
        strategy = self.strategy
        if isinstance(strategy, Strategy):
            return lambda *_, **__: strategy
        made: Callable[..., Strategy] = instantiate(self.config.strategy) if isinstance(strategy, str) else strategy
        return made

    def _table(self) -> Callable[[SearchSpace], LatencyTable | None]:
        if isinstance(self.strategy, Strategy):
            own = self.strategy.table
            return lambda _: own
        given = self.objects.get("latency_table")
        if isinstance(given, LatencyTable):
            return given.check
        made: Callable[[SearchSpace], LatencyTable | None] = given or instantiate(self.config.latency_table)
        return made

    def _engine(self, made: Mapping[str, Any]) -> Callable[[], Engine]:
        """With names alone the engine of the configuration; else one whose children get the objects themselves."""
        named = all(isinstance(part, str | None) for part in (self.data, self.space, self.objects.get("task")))
        if named:
            return engine_of(self.config)

        def make() -> Engine:
            child = instantiate(self.config.child) if self.config.child else Child()
            engine: Engine = instantiate(self.config.engine)(
                ObjectsJob(made["data"], made["space"], made["task"], child)
            )
            return engine

        return make

    def _classes(self) -> Parts:
        parts = parts_of(self.config)
        if not isinstance(self.strategy, str):
            parts = replace(parts, strategy=_class_of(self.strategy))
        space = self.strategy.space if isinstance(self.strategy, Strategy) else self.space
        if isinstance(space, SearchSpace):
            parts = replace(parts, space=type(space), space_name=space.name)
        if "callbacks" in self.objects:
            parts = replace(parts, callbacks={type(c).__name__: type(c) for c in self.objects["callbacks"]})
        return parts

    def _record(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration as plain values, with a description where a part is an object."""
        OmegaConf.resolve(self.config)  # what refers to a part that is an object keeps the preset's value
        with open_dict(self.config):
            for key, value in self.objects.items():
                self.config[key] = describe(value)
            if not isinstance(self.data, str):
                self.config.dataset = {
                    **describe(made["data"]),
                    **made["data"].found,
                    "sizes": dict(made["data"].sizes),
                }
            if not isinstance(self.space, str | None):
                space = made["space"]
                self.config.search_space = {**describe(space), "name": space.name, "digest": space.digest}
            if not isinstance(self.strategy, str):
                self.config.strategy = describe(self.strategy)
        return plain_record(self.config)

    def _strategy_name(self) -> str:
        if isinstance(self.strategy, str):
            return self.strategy
        kind = _class_of(self.strategy)
        return _preset_of_class(kind) or kind.__qualname__

    def _data_name(self) -> str:
        if isinstance(self.data, str):
            return self.data
        return type(getattr(self.data, "module", self.data)).__qualname__


def _check_parts(changes: Mapping[str, Any], parts: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse changes of a part that was given as an object, or that are another part.

    Raises:
        ConfigError: names the argument that takes the part.
    """
    for key, (argument, part) in parts.items():
        if key not in changes:
            continue
        if not isinstance(changes[key], Mapping):
            raise ConfigError(
                f"{key}: got {shown(changes[key])}; legal: keys of the preset; {argument}= takes the part"
            )
        if not isinstance(part, str | None):
            raise ConfigError(
                f"{key}: {argument}= is an object, so no preset is changed; make the {type(part).__name__} with the "
                f"settings {sorted(map(str, changes[key]))}"
            )


def _is_object(key: str, value: Any) -> bool:
    """Whether a part is an object to be used as it is.

    Raises:
        ConfigError: it is no such part.
    """
    if key not in _GROUPS or (isinstance(value, str | Mapping | None) and not isinstance(value, LatencyTable)):
        return False
    kinds, words = _OBJECTS.get(key, ((), ""))
    several = key in ("callbacks", "logger") and isinstance(value, Sequence)
    made = [*value] if several else [value]
    if (key == "callbacks" and not several) or not all(isinstance(each, kinds) or _makes(key, each) for each in made):
        legal = ", ".join(filter(None, ["a preset's name", "a mapping of its keys", words]))
        raise ConfigError(f"{key}: got {shown(value)}; legal: {legal}")
    return True


def _makes(key: str, value: Any) -> bool:
    return key in ("latency_table", "trainer") and callable(value)


def _set_up(data: SearchData, for_search: bool) -> None:
    data.for_search = for_search
    data.prepare_data()
    data.setup("fit")


def _carrier(data: SearchData) -> str:
    """The preset whose task and retraining go with data of a kind: text in windows, or images."""
    return "digits" if isinstance(data, ImageData) or len(data.shape) > 1 else "text"


def _preset(strategy: Any) -> str:
    """The preset whose trainer, callbacks and engine go with a strategy."""
    if isinstance(strategy, str):
        return strategy
    kind = _class_of(strategy)
    if not issubclass(kind, Strategy):
        raise ConfigError(f"strategy: got {shown(strategy)}; legal: a preset's name, or a strategy such as ln.FBNet")
    return _preset_of_class(kind) or ("random" if issubclass(kind, TrialSearch) else "random_ws")


def _class_of(strategy: Any) -> type:
    """The class of a strategy that is an object, a class, or a partial of a class."""
    made = strategy.func if isinstance(strategy, partial) else strategy
    return made if isinstance(made, type) else type(made)


def _preset_of_class(kind: type) -> str | None:
    return preset_of("strategy", f"{kind.__module__}.{kind.__qualname__}")


def compose_names(names: Mapping[str, str]) -> DictConfig:
    """The default configuration with other options of some groups.

    Raises:
        ConfigError: a group has no such option.
    """
    for group, name in names.items():
        if name not in (known := presets.names(group)):
            raise ConfigError(f"{group}: there is no preset {shown(name)}; {hint(name, known)}")
    return configured([f"{group}={name}" for group, name in names.items()])


def _change(config: DictConfig, changes: Mapping[str, Any]) -> None:
    """Set keys of the configuration; a mapping changes those it names."""
    for key, value in changes.items():
        if key not in config:
            raise ConfigError(f"{key}: there is no such key of the configuration; {hint(key, map(str, config))}")
        if isinstance(config[key], DictConfig) and not isinstance(value, Mapping | str | None):
            raise ConfigError(f"{key}: got {shown(value)}; legal: a mapping of its keys, or a preset's name")
        with open_dict(config):  # the check knows which keys a constructor has
            OmegaConf.update(config, key, value, merge=True)
