"""debug=fast takes every kind of step, in every strategy; debug=trials is the part of it for children."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from strategies_of_conf import SHARING, TRIALS, composed, strategy_class, toy_for

from lightning_nas.cli.build import parts_of
from lightning_nas.cli.config.check import check
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.block_qnn import BlockQNN
from lightning_nas.strategies.multi_trial.eas import EAS
from lightning_nas.strategies.multi_trial.policy import PolicySearch
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", SHARING)
def test_debug_fast_takes_every_kind_of_step(name: str, tmp_path: Path) -> None:
    config, space = composed(f"strategy={name}", "debug=fast"), toy_for(strategy_class(name))
    module: SearchModule = instantiate(config.strategy)(space, None, Macs()(space))
    limits: dict[str, Any] = {key: config.trainer[key] for key in ("limit_train_batches", "limit_val_batches")}
    callbacks = [instantiate(config.callbacks.short_warm_up)]
    fit(module, ToyData(), tmp_path, epochs=config.trainer.max_epochs, every=1000, callbacks=callbacks, **limits)
    assert min(module.steps_taken.values()) > 0, module.steps_taken
    assert space.validate(module.derive()) == module.derive()


@pytest.mark.parametrize("debug", ["fast", "trials"])
@pytest.mark.parametrize("engine", ["local", "serial", "ray"])
def test_debug_suits_searches_that_train_children(debug: str, engine: str) -> None:
    config = composed("strategy=random", f"debug={debug}", f"engine={engine}")
    check(config)
    parts_of(config).check()
    assert {*config.callbacks} == {"trial_logger", "progress"}
    assert (config.strategy.trials, config.child.epochs, config.retrain.epochs) == (12, 1, 1)


@pytest.mark.parametrize("name", TRIALS)
def test_debug_fast_learns_from_trials(name: str, tmp_path: Path) -> None:
    config, space = composed(f"strategy={name}", "debug=fast"), ToySpace(5)
    check(config)
    parts_of(config).check()
    module = instantiate(config.strategy)(space, None, Macs()(space), engine=ToyEngine(noise=0.1))
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert len(module.history) == config.strategy.trials
    if isinstance(module, PolicySearch):
        assert module.version > 0
    if isinstance(module, EAS):
        assert module.baseline > 0
    if isinstance(module, BlockQNN):
        assert module.q
