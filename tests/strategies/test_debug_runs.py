"""debug=fast and debug=trials take every kind of step, in every strategy."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from lightning_nas.cli.command import conf_dir
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.block_qnn import BlockQNN
from lightning_nas.strategies.multi_trial.eas import EAS
from lightning_nas.strategies.multi_trial.policy import PolicySearch
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread

NAMES = sorted(file.stem for file in Path(conf_dir(), "strategy").glob("*.yaml"))


@cache
def configured(*choices: str) -> DictConfig:
    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        return hydra.compose("config", [*choices, "paths.output=''"])


def shares_weights(name: str) -> bool:
    return issubclass(get_class(configured(f"strategy={name}").strategy._target_), SearchModule)


SHARING = [name for name in NAMES if shares_weights(name)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", SHARING)
def test_debug_fast_takes_every_kind_of_step(name: str, tmp_path: Path) -> None:
    config, space = configured(f"strategy={name}", "debug=fast"), ToySpace()
    module: SearchModule = instantiate(config.strategy)(space, None, Macs()(space))
    limits: dict[str, Any] = {key: config.trainer[key] for key in ("limit_train_batches", "limit_val_batches")}
    callbacks = [instantiate(config.callbacks.short_warm_up)]
    fit(module, ToyData(), tmp_path, epochs=config.trainer.max_epochs, every=1000, callbacks=callbacks, **limits)
    assert min(module.steps_taken.values()) > 0, module.steps_taken
    assert space.validate(module.derive()) == module.derive()


@pytest.mark.parametrize("name", sorted({*NAMES} - {*SHARING}))
def test_debug_trials_learns_from_trials(name: str, tmp_path: Path) -> None:
    config, space = configured(f"strategy={name}", "debug=trials"), ToySpace(5)
    module = instantiate(config.strategy)(space, None, Macs()(space), engine=ToyEngine(noise=0.1))
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert len(module.history) == config.strategy.trials
    if isinstance(module, PolicySearch):
        assert module.version > 0
    if isinstance(module, EAS):
        assert module.baseline > 0
    if isinstance(module, BlockQNN):
        assert module.q
