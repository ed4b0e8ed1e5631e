"""Settings that can be judged before data are read, which may take minutes."""

from __future__ import annotations

from collections.abc import Mapping

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.resume import named_file
from lightning_nas.experiment.retrain import check_optimizer
from lightning_nas.experiment.run import named_architecture
from lightning_nas.experiment.settings import Retraining
from lightning_nas.latency.sources import File, Macs, Measured, NoTable, Params
from lightning_nas.spaces.own.explanation import SIZES
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.strategies.target import check_unit
from lightning_nas.trials.engines.base import Engine


def check_before_data(
    config: DictConfig, parts: Parts, retraining: Retraining, target: Mapping[str, float] | None
) -> None:
    """Refuse what this machine cannot serve, files that are not there, and a retraining that cannot take a step.

    Args:
        config: of the run.
        parts: the classes that it names.
        retraining: its settings of the retraining.
        target: costs of the answer by what they are of; None for none.

    Raises:
        InputError: names the setting.
    """
    engine, stages = parts.engine, config.stages
    if "search" in stages and engine is not None and issubclass(engine, Engine):
        settings = OmegaConf.to_container(config.engine, resolve=True)
        assert isinstance(settings, dict)
        engine.check(**{str(name): value for name, value in settings.items() if not str(name).startswith("_")})
    if "search" not in stages and "retrain" in stages:
        if config.architecture is None:
            raise ConfigError("stages=[retrain] needs architecture=FILE or architecture=ZOO_NAME")
        if not (issubclass(parts.space, FromModel) and config.architecture in SIZES):
            named_architecture(str(config.architecture))
    if "retrain" in stages:
        check_optimizer(retraining)
    if config.ckpt_path not in (None, "last"):
        named_file(config.ckpt_path)
    source = instantiate(config.latency_table)
    for name, cost in (target or {}).items():
        if isinstance(source, Macs | Params | NoTable):
            check_unit(name, cost, source.unit)
    if config.ckpt_path is None and "ranking" not in stages and isinstance(source, File | Measured):
        source.check()
