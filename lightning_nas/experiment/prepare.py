"""From a checked configuration to the objects of a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.callbacks import ProgressBar

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.cli.config.check import check
from lightning_nas.data.adapt import adapt
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.experiment.folder import forget, goes_on_in, is_first_process
from lightning_nas.experiment.loggers import make_loggers
from lightning_nas.experiment.resume import check_resumable
from lightning_nas.files import atomic
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.tasks.base import Task
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.metrics import MetricsFile
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.engines.base import Engine

log = logging.getLogger(__name__)

_DECISIVE = ("seed", "search_space", "strategy", "dataset", "task", "retrain", "callbacks", "child")
_TRAINER_SETTINGS = (
    *("max_epochs", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch", "log_every_n_steps"),
)


@dataclass
class Run:
    """The parts of one run, and where it writes.

    Attributes:
        result: the figures so far.
        next_best: architectures that are drawn too, after the answer.
    """

    config: DictConfig
    folder: Path
    data: SearchData
    space: SearchSpace
    task: Task
    result: dict[str, Any] = field(default_factory=dict)
    next_best: list[Architecture] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Of everything random in the run."""
        return int(self.config.seed)

    def home(self, architecture: Architecture) -> SearchSpace:
        """The space of an answer, in the size that is retrained."""
        if architecture.space == self.space.name or not isinstance(self.space, WeightSharingSpace):
            return self.space.evaluation()
        return self.space.wider()

    @property
    def resumes(self) -> bool:
        """Whether the search goes on where the run's own folder stopped."""
        return goes_on_in(self.folder / "checkpoints", self.config)


def prepare(config: DictConfig) -> Run:
    """Read the data, fill in the sizes the configuration left to it, and build the space.

    Raises:
        InputError: data, space or sizes do not go together.
        EnvironmentFailure: the folder cannot be written.
    """
    if "search" in config.stages:
        check_pair(config)
    folder = Path(config.paths.output)
    data = adapt(instantiate(config.dataset), seed=config.seed)
    data.setup("fit")
    with open_dict(config):
        for name, value in data.found.items():
            if config.dataset.get(name) is None:
                config.dataset[name] = value
    check(config)  # once more, with the sizes
    first = folder if "search" in config.stages else folder / "retrain"
    check_resumable(config.ckpt_path, first, _settings(config), allow_inexact=config.resume.allow_inexact)
    if is_first_process():
        if config.ckpt_path != "last":
            forget(folder, config)
        with atomic(folder / "config.yaml") as file:
            file.write(OmegaConf.to_yaml(config, resolve=True))
    space: SearchSpace = instantiate(config.search_space)
    if "retrain" in config.stages or not looks_up(config):
        check_sizes(space, data)
    return Run(config, folder, data, space, instantiate(config.task))


def trains_children(config: DictConfig) -> bool:
    """Whether the strategy trains each architecture on its own, and shares no weights."""
    return issubclass(get_class(config.strategy._target_), TrialSearch)


def looks_up(config: DictConfig) -> bool:
    """Whether results cost nothing, as those of a table do, and no network sees the data."""
    if not config.engine:
        return False
    engine = get_class(config.engine._target_)
    return issubclass(engine, Engine) and engine.instant


def _child_asked_for() -> str | None:
    """What the command line says of ``child``, which strategies bring and tables take away; None for nothing."""
    asked = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    said = (override.removeprefix("child=") for override in asked if override.startswith("child="))
    return next((child for child in said if child not in ("none", "null")), None)


def check_pair(config: DictConfig) -> None:
    """Refuse parts of a configuration that do not go together, before any data are read.

    Raises:
        ConfigError: a strategy that shares weights on a space without a supernet, or with an engine; one that trains
            children without an engine, without saying how it is to train them or saying so where they are looked up,
            or with callbacks that look at shared weights.
    """
    if not trains_children(config):
        space = config.search_space
        if not issubclass(get_class(space._target_), WeightSharingSpace):
            name = space.get("name", space._target_)
            raise ConfigError(
                f"this strategy shares weights and search_space={name} has no supernet; choose a space that has one, "
                "e.g. fbnet_small, or a strategy that trains every architecture, e.g. evolution"
            )
        if config.engine or config.child:
            raise ConfigError("engine, child: this strategy trains no children; leave them out")
        return
    if not config.engine or not (config.child or looks_up(config)):
        raise ConfigError(
            "this strategy trains children: it needs engine=local, serial or ray with child=default, or engine=table"
        )
    if looks_up(config) and (child := _child_asked_for()):
        raise ConfigError(f"child={child}: this engine trains nothing, it looks results up; leave it out")
    sharing = (ArchitectureLogger, RankCheck, SearchHealth)
    for name, node in (config.callbacks or {}).items():
        if node and issubclass(get_class(node._target_), sharing):
            raise ConfigError(
                f"callbacks.{name} looks at shared weights, this strategy has none; use callbacks=trials, debug=trials"
            )


def latency_table(run: Run) -> LatencyTable | None:
    """The table of the configuration, kept in the run's folder so that a resumed run has the very same numbers."""
    file = run.folder / "latency_table.json"
    if file.exists() and (run.resumes or StopRequest.follows):
        table = LatencyTable.load(file)
        if table.space_digest != run.space.digest:
            raise ConfigError(f"the run in {shown(run.folder)} was on another search space; ckpt_path=last needs it")
        return table.check(run.space)
    made: LatencyTable | None = instantiate(run.config.latency_table)(run.space)
    if made is not None and is_first_process():
        made.save(file)
    return made


def given_architecture(run: Run) -> Architecture:
    """The architecture named by ``architecture=``: a zoo name or a file.

    Raises:
        InputError: none was named, or it is not of this space.
    """
    name = run.config.architecture
    if name is None:
        raise ConfigError("stages=[retrain] needs architecture=FILE or architecture=ZOO_NAME")
    architecture = zoo.load(name) if name in zoo.names() else None
    if architecture is None:
        if not Path(name).is_file():
            raise InputError(f"architecture={shown(name)} is neither a file nor a zoo name; the zoo has {zoo.names()}")
        architecture = Architecture.load(name)
    return run.space.validate(architecture)


def make_trainer(run: Run, stage: str, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """Lightning's Trainer with exact checkpoints and ``metrics.csv``, mirrored to the loggers of the configuration.

    Args:
        run: what is run.
        stage: the folder inside the run's own, and what the names of mirrored values begin with; "" is the search.
        callbacks: besides that of the checkpoints.
        options: of the Trainer; ``conditions`` are of :class:`ExactCheckpoint`.

    Raises:
        ConfigError: more than one process, in a sweep that is in one process.
    """
    folder = run.folder / stage
    resume = run.config.resume
    conditions = {**_settings(run.config), **options.pop("conditions", {})}
    exact = ExactCheckpoint(
        folder / "checkpoints", every=resume.save_every, allow_inexact=resume.allow_inexact, conditions=conditions
    )
    trainer: pl.Trainer = instantiate(run.config.trainer)(
        callbacks=[exact, *callbacks],
        logger=[MetricsFile(folder / "metrics.csv"), *make_loggers(run.config, stage)],
        plugins=[AtomicCheckpointIO(keep=resume.keep)],
        default_root_dir=folder,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        **options,
    )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    starts_others = trainer.world_size > 1 and environment and not environment.creates_processes_externally
    if starts_others and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(
            f"trainer.devices={run.config.trainer.devices} in a sweep: each process would run the whole sweep again; "
            "run the jobs one by one, or start the sweep with torchrun"
        )
    return trainer


def stage_seconds(trainer: pl.Trainer) -> float:
    """How long a stage took, all attempts together."""
    return round(ExactCheckpoint.of(trainer).seconds, 3)


def _settings(config: DictConfig) -> dict[str, str]:
    """Those that change the bits of a result, as text by full key."""
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    kept = {name: content[name] for name in _DECISIVE}
    kept["trainer"] = {name: content["trainer"].get(name) for name in _TRAINER_SETTINGS}
    kept["engine"] = _engine_settings(config) if config.engine else {}
    kept["latency_table"] = {name: value for name, value in content["latency_table"].items() if name != "cache_dir"}
    return dict(_flat(kept))


def _engine_settings(config: DictConfig) -> dict[str, Any]:
    """What children are trained with, or looked up in; not what spreads them: a search may move to more machines."""
    engine = config.engine
    if looks_up(config):
        return {name: engine.get(name) for name in ("_target_", "dataset", "epochs")}
    return {"threads": engine.get("threads", config.threads), "gpus": bool(engine.get("gpus"))}


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)
