"""Search on a score without training (arXiv:2101.08134)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs as CountedMacs
from lightning_nas.proxies.size import Macs
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.multi_trial.proxy_search import ProxySearch
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, TrialStrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.network import quiet_trainer
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.proxy_child import ProxyChild, as_reward

SPACE = ToySpace(LAYERS)


def make(engine: Engine, seed: int = 0, **options: Any) -> ProxySearch:
    options = {"trials": 60, "trials_per_step": 1} | options
    return ProxySearch(SPACE, Classification(), CountedMacs()(SPACE), engine=engine, seed=seed, **options)


class TestProxySearch(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def cells() -> NASBench201Space:
    return NASBench201Space("small", image_size=4, in_channels=1, channels=8, cells=[1, 1], num_classes=4)


@pytest.mark.parametrize("proposals", ["evolution", "random"])
def test_by_multiply_adds_it_finds_cells_of_the_most(proposals: str) -> None:
    """The largest of 15,625 cells has a 3x3 convolution on every edge; evolution climbs there, chance does not."""
    space = cells()
    search = ProxySearch(space, trials=300, proposals=proposals, child=ProxyChild(proxy=Macs(), images=4))  # type: ignore[arg-type]
    quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
    table = CountedMacs()(space)
    for trial, reward in search.history:
        assert reward == as_reward(space.cost(trial.architecture, table))
    costs = [space.cost(trial.architecture, table) for trial, _ in search.history]
    assert space.cost(search.answer(), table) == max(costs)
    scores = search.tables()["scores"]
    assert scores[0]["choices"] == str(search.answer())
    assert [row["score"] for row in scores] == pytest.approx(sorted(costs, reverse=True))
    assert ("population" in search.tables()) == (proposals == "evolution")
    largest = search.answer().options == ("nor_conv_3x3",) * 6
    assert largest == (proposals == "evolution")
    assert all(("parent" in trial.info) == (proposals == "evolution") for trial, _ in search.history[10:])


def test_random_proposals_are_those_of_random_search(tmp_path: Path) -> None:
    from lightning_nas.testing.multi_trial import ToyEngine

    tried: list[list[Architecture]] = []
    for module in (
        make(ToyEngine(), trials=12, proposals="random"),
        RandomSearch(SPACE, Classification(), engine=ToyEngine(), trials=12, in_flight=1),
    ):
        fit(module, None, tmp_path / type(module).__name__, epochs=1, every=1000)
        tried.append([trial.architecture for trial, _ in module.history])
    assert tried[0] == tried[1]


def test_networks_of_words_are_refused_before_anything_is_scored() -> None:
    space = ToySpace()
    space.input_dtype = torch.int64
    search = ProxySearch(space, Classification(), trials=20)
    with pytest.raises(ConfigError, match=r"ProxyChild: scores are of networks that take images"):
        quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))


def test_a_child_that_is_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy=proxy: Child trains; legal: child=proxy with proxy=NAME"):
        ProxySearch(SPACE, child=Child(epochs=1))
