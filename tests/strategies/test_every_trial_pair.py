"""Each strategy that trains children on each search space, those with a supernet included."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from strategies_of_conf import TRIALS, composed

from lightning_nas.cli.command import conf_dir
from lightning_nas.files import replace_file
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.checkpoint import sealed
from lightning_nas.training.seeding import mix
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Request, Response

SPACES = sorted(file.stem for file in Path(conf_dir(), "search_space").glob("*_small.yaml"))


@cache
def parts(space: str) -> tuple[SearchSpace, Any, LatencyTable]:
    config = composed(f"search_space={space}", "strategy=random")
    if config.dataset.num_classes is None:
        config = config.copy()
        OmegaConf.set_readonly(config, False)
        config.dataset.num_classes = 50
    built: SearchSpace = instantiate(config.search_space)
    return built, instantiate(config.task), Macs()(built)


class Numbers(Engine):
    """A figure for each architecture, of no meaning; some fail."""

    def __init__(self) -> None:
        self._ended: list[Response] = []

    @property
    def slots(self) -> int:
        return 4

    def submit(self, request: Request) -> None:
        if request.keep is not None:  # children of the next round inherit it
            replace_file(request.keep, *sealed(memoryview(b"an archive without a comment\0\0")))
        number = mix(request.architecture.key) % 1000
        asked = (request.trial, request.attempt)
        failed = Response(*asked, "failed", reason="one in ten")
        self._ended.append(failed if number < 100 else Response(*asked, "finished", (0.5, number / 1000), 1.0))

    def finished(self, timeout: float) -> list[Response]:
        ended, self._ended = self._ended, []
        return ended


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("strategy", TRIALS)
def test_a_strategy_searches_a_space(strategy: str, space: str, tmp_path: Path) -> None:
    built, task, table = parts(space)
    module: TrialSearch = instantiate(composed(f"strategy={strategy}").strategy)(
        built, task, table, engine=Numbers(), seed=0, trials=24
    )
    with one_thread():
        fit(module, None, tmp_path, epochs=1, every=1000)
    assert 0 < len(module.history) <= 24
    for trial, reward in module.history:
        assert built.validate(trial.architecture) == trial.architecture
        assert (reward == 0) if trial.reason else (reward >= 0)
    best = max(reward for trial, reward in module.history if not trial.reason)
    assert best == next(reward for trial, reward in module.history if trial.architecture == module.answer())
