"""Runs of a comparison made from a configuration: overrides as on the command line of a run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_nas.cli import presets
from lightning_nas.cli.before_data import check_before_data, known_space
from lightning_nas.cli.build import build, callbacks_of, check_lengths, parts_of, retraining_of, target_of
from lightning_nas.cli.config.check import check
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.configuration import configured
from lightning_nas.cli.names import own_data
from lightning_nas.errors import ConfigError, shown
from lightning_nas.experiment.comparison.comparison import Comparison, log_comparison
from lightning_nas.experiment.comparison.plan import RANDOM, Budget
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.run import Run
from lightning_nas.experiment.work import at_work
from lightning_nas.strategies.multi_trial.base import TrialSearch

_OF_TRIALS = ("engine", "child")
_OF_SHARED = (  # keys that the other family of strategies lacks
    *("rank_check", "rank_check.truth", "callbacks.architecture_logger", "callbacks.rank_check"),
    *("callbacks.search_health", "trainer.max_epochs"),
)
_COSTLY = ("fbnet", "mnasnet", "proxyless")  # objectives with a cost: they keep the latency table of their YAML
SET_HERE = {
    "seed": "seeds=N",
    "strategy": "strategies=[...]",
    "stages": "nothing: answers are looked up or retrained",
    "architecture": "hand_made=",
    "ckpt_path": "nothing: the same command goes on where it stopped",
    "paths.output": "out=FOLDER",
    "hydra.run.dir": "out=FOLDER",
}
"""Keys of a run that a comparison sets itself, and what serves in their place."""


class Overridden:
    """Makes the runs of a comparison from overrides.

    Args:
        folder: of the comparison, whose name is the group of runs in W&B.
        overrides: of all runs.
        tasks: further overrides of each task.
        own: further overrides of single strategies.
        budget: of every search.

    Raises:
        ConfigError: an override is of a key that a comparison sets itself.
    """

    def __init__(
        self,
        folder: Path,
        overrides: Sequence[str],
        tasks: Mapping[str, Sequence[str]],
        own: Mapping[str, Sequence[str]],
        budget: Budget,
    ) -> None:
        self.folder, self.overrides, self.tasks, self.own, self.budget = folder, list(overrides), tasks, own, budget
        for text in [*overrides, *(each for of in (*tasks.values(), *own.values()) for each in of)]:
            if instead := SET_HERE.get(_key(text)):
                raise ConfigError(f"{_key(text)}: a comparison sets it; use {instead}")
        self._composed = cache(self._compose)

    def __reduce__(self) -> tuple[Any, ...]:  # a worker composes for itself
        return Overridden, (self.folder, self.overrides, self.tasks, self.own, self.budget)

    # -- what a comparison asks of its maker --------------------------------------------------------------------

    def asked(self, strategy: str, task: str) -> dict[str, str]:
        """The settings of the runs of a strategy on a task, as text by key."""
        content: Any = OmegaConf.to_container(self._composed(strategy, task), resolve=False)
        return {key: json.dumps(value) for key, value in _leaves(content) if not key.startswith(("paths.", "logger."))}

    def check(self, strategy: str, task: str) -> Parts:
        """Refuse, before anything runs, what cannot run."""
        config = self._composed(strategy, task)
        with _named(strategy):
            check(config)
            parts = parts_of(config)
            parts.check()
            retraining, target = retraining_of(config), target_of(config)
            made, callbacks = instantiate(config.strategy), callbacks_of(config)
            check_before_data(config, parts, retraining, target, made, callbacks, space=known_space(config))
            check_lengths(config, made, callbacks, retraining)
        return parts

    def run(self, strategy: str, task: str, seed: int, folder: Path) -> Run:
        """A run that resumes what is in its folder."""
        config = copy.deepcopy(self._composed(strategy, task))
        with open_dict(config):
            config.seed, config.paths.output, config.ckpt_path = seed, str(folder), "last"
            if "wandb" in (config.logger or {}):
                config.logger.wandb.group = config.logger.wandb.group or self.folder.name
                config.logger.wandb.name = config.logger.wandb.name or f"{task} {strategy} seed {seed}"
        own_data(config)
        with at_work(folder, seed, config.threads):
            check(config)
            return build(config)

    def space_name(self, task: str) -> str:
        """The name of the search space of a task."""
        return parts_of(self._composed(RANDOM, task)).space_name

    def check_own(self, searches: Sequence[str]) -> None:
        """Refuse overrides of a strategy that is not compared."""
        for strategy, overrides in self.own.items():
            if strategy not in searches:
                key = _key(overrides[0]).removeprefix("strategy.")
                raise ConfigError(f"{strategy}.{key}: {strategy} is not among the strategies")

    def log(self, made: Comparison) -> None:
        """Give W&B the table and the page, where the runs are logged there."""
        config = self._composed(RANDOM, made.plan.tasks[0])
        if "wandb" not in (config.logger or {}):
            return
        with open_dict(config):
            config.paths.output = str(self.folder)
            config.logger.wandb.group = config.logger.wandb.group or self.folder.name
            config.logger.wandb.name = "comparison"
        log_comparison(made, instantiate(config.logger.wandb, _partial_=True))

    # -- the configuration --------------------------------------------------------------------------------------

    def _compose(self, strategy: str, task: str) -> DictConfig:
        if strategy not in (known := presets.names("strategy")):
            raise ConfigError(f"strategies: there is no strategy {shown(strategy)}; {hint(strategy, known)}")
        trials = issubclass(get_class(presets.content("strategy", strategy)["_target_"]), TrialSearch)
        given = [text for text in [*self.overrides, *self.tasks[task]] if _concerns(text, trials)]
        own = self.own.get(strategy, ())
        usual = ["logger=none"] + ([] if strategy in _COSTLY else ["latency_table=none"])
        named = {_key(text) for text in [*given, *own]}
        usual = [text for text in usual if _key(text) not in named]
        with _named(strategy):
            config = configured([f"strategy={strategy}", *usual, *given, *own, "paths.output=''"])
        with open_dict(config):
            if config.callbacks:
                config.callbacks.pop("progress", None)
            config.stages = ["search"] if self._looks_up(task, config) else ["search", "retrain"]
            for section, settings in self.budget.settings(strategy, parts_of(config), _epochs(config)).items():
                for key, value in settings.items():
                    OmegaConf.update(config, f"{section}.{key}", value)
        return config

    def _looks_up(self, task: str, config: DictConfig) -> bool:
        """Whether the truth of the task is in a table, which the random search of every comparison reads."""
        parts = parts_of(config)
        return parts.looks_up if parts.trains_children else self._looks_up(task, self._composed(RANDOM, task))


def _epochs(config: DictConfig) -> int | None:
    """Epochs of the training of one candidate; None where none is trained alone."""
    found = config.child.get("epochs") if config.child else (config.engine or {}).get("epochs")
    return None if found is None else int(found)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _concerns(override: str, trials: bool) -> bool:
    """Whether an override is of a key that strategies of this family have."""
    key = _key(override)
    others = _OF_SHARED if trials else _OF_TRIALS
    return not any(key == other or key.startswith(f"{other}.") for other in others)


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, content


@contextmanager
def _named(strategy: str) -> Iterator[None]:
    """Errors that say which strategy's runs they are about."""
    try:
        yield
    except ConfigError as reason:
        raise ConfigError(f"{strategy}: {reason}") from None
