"""Settings that can be judged before data are read, which may take minutes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_nas.data.checks import check_pixels
from lightning_nas.errors import NasError
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.rehearsal import check_optimizers, check_short, check_truths
from lightning_nas.experiment.resume import named_file
from lightning_nas.experiment.retrain import check_optimizer
from lightning_nas.experiment.run import named_architecture
from lightning_nas.experiment.settings import Retraining
from lightning_nas.latency.sources import File, Macs, Measured, NoTable, Params
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.own.explanation import SIZES
from lightning_nas.spaces.sides import pair, size_of
from lightning_nas.strategies.target import Target, check_unit
from lightning_nas.trials.engines.base import Engine
from lightning_nas.truth.short_training import ShortTraining


def check_before_data(
    config: DictConfig,
    parts: Parts,
    retraining: Retraining,
    target: Mapping[str, float] | None,
    strategy: Callable[..., Any],
    callbacks: Iterable[pl.Callback],
    *,
    source: Any = None,
    space: SearchSpace | None = None,
) -> None:
    """Refuse what this machine cannot serve, files that are not there, trainings that cannot take a step, bad targets.

    Args:
        config: of the run.
        parts: the classes that it names.
        retraining: its settings of the retraining.
        target: costs of the answer by what they are of; None for none.
        strategy: makes the strategy; nothing is known of one that is made already.
        callbacks: of the search.
        source: of the latency table, if it is not that of the configuration; a table itself may be.
        space: to search, where it is known before the data.

    Raises:
        InputError: names the setting.
    """
    stages = config.stages
    if "retrain" in stages:  # first: trainings of candidates take its optimiser
        check_optimizer(retraining)
        if (known := config.dataset.get("image_size")) is not None:
            sides = pair(size_of(known))
            check_pixels(f"retrain.cutout={retraining.cutout}", retraining.cutout, min(sides), sides)
    if "search" in stages:
        _check_search(config, parts, strategy, callbacks)
    given = config.architecture if "retrain" in stages and "search" not in stages else None
    if given is not None and not (getattr(parts.space, "nests", False) and given in SIZES):
        named_architecture(str(given))
    if "ranking" in stages and isinstance(ranking := instantiate(config.ranking), ShortTraining):
        check_short("ranking.", ranking)
    if config.ckpt_path not in (None, "last"):
        named_file(config.ckpt_path)
    source = instantiate(config.latency_table) if source is None else source
    for name, cost in (target or {}).items():
        if isinstance(source, Macs | Params | NoTable | LatencyTable):
            check_unit(name, cost, source.unit)
    resumed = config.ckpt_path is not None or (Path(config.paths.output) / "latency_table.json").exists()
    if not resumed and "ranking" not in stages and isinstance(source, File | Measured):
        source.check()
    if not resumed and "search" in stages and target and space is not None:
        _check_target(space, source, target, config.seed)


def known_space(config: DictConfig) -> SearchSpace | None:
    """The search space; None where it has sizes that are found in the data.

    Raises:
        InputError: it cannot be made.
    """
    sizes = re.findall(r"\$\{(?:oc\.select:)?dataset\.(\w+)[,}]", OmegaConf.to_yaml(config.search_space))
    if any(size in config.dataset and config.dataset[size] is None for size in sizes):
        return None
    try:
        space: SearchSpace = instantiate(config.search_space)
    except InstantiationException as reason:
        if isinstance(reason.__cause__, NasError):
            raise reason.__cause__ from None
        raise
    return space


def _check_search(
    config: DictConfig, parts: Parts, strategy: Callable[..., Any], callbacks: Iterable[pl.Callback]
) -> None:
    engine = parts.engine
    if engine is not None and issubclass(engine, Engine):
        settings = OmegaConf.to_container(config.engine, resolve=True)
        assert isinstance(settings, dict)
        engine.check(**{str(name): value for name, value in settings.items() if not str(name).startswith("_")})
    check_optimizers(strategy, config.trainer.get("max_epochs"))
    check_truths(callbacks)
    if parts.trains_children and not parts.looks_up and isinstance(child := instantiate(config.child), ShortTraining):
        check_short("child.", child)


def _check_target(space: SearchSpace, source: Any, target: Mapping[str, float], seed: int) -> None:
    """Refuse a target that the space cannot keep, where its costs are known without a measurement."""
    table = source if isinstance(source, LatencyTable) else None
    if isinstance(source, Macs | Params | File):
        table = source(space)
    counted = {name: cost for name, cost in target.items() if table is not None or name in ("macs", "params")}
    if counted and len(space.operations()):
        Target.of(space, table, counted, seed)
