"""MnasNet's search (arXiv:1807.11626)."""

from typing import Any

import pytest
from policies import SETTINGS

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.strategies.multi_trial.mnasnet import MnasNet
from lightning_nas.strategies.penalties import AddLinear, MnasNetProduct
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.trials.book import Trial
from lightning_nas.trials.engines.base import Engine

SPACE = ToySpace(LAYERS)
NAMES = [decision.name for decision in SPACE.decisions]
MACS = Macs()(SPACE)  # "blur" and "swap" cost nothing


def make(engine: Engine | None = None, seed: int = 0, table: LatencyTable | None = MACS, **options: Any) -> MnasNet:
    settings = SETTINGS | {"children": 3}
    return MnasNet(SPACE, Classification(), table, engine=engine or ToyEngine(), seed=seed, **settings | options)


class TestMnasNet(TrialStrategyCase):
    """The best of the toy is also its dearest: a soft trade-off still prefers it."""

    trials, seeds, found_at_least = 12, 6, 3

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def reward(penalty: MnasNetProduct, accuracy: float, kept: int, latency: float) -> float:
    """The reward of an architecture with ``kept`` convolutions and that latency in milliseconds."""
    architecture = SPACE.validate({f"layer_{i + 1}": "keep" if i < kept else "blur" for i in range(LAYERS)})
    scale = latency / SPACE.cost(architecture, MACS)
    scaled = {key: entry.model_copy(update={"median": entry.median * scale}) for key, entry in MACS.entries.items()}
    table = MACS.model_copy(update={"entries": scaled, "unit": "ms"})
    trial = Trial(0, architecture, {}, (0.1, accuracy), 1.0, None)
    return make(table=table, penalty=penalty).reward(trial)


@pytest.mark.parametrize(
    ("latency", "soft", "hard"), [(78.0, 0.7479437, 0.7211538), (150.0, 0.7144785, 0.375), (75.0, 0.75, 0.75)]
)
def test_the_reward_is_the_papers(latency: float, soft: float, hard: float) -> None:
    for kept in (0, 3):
        assert reward(MnasNetProduct(75.0), 0.75, kept, latency) == pytest.approx(soft, abs=1e-7)
        assert reward(MnasNetProduct(75.0, 0.0, -1.0), 0.75, kept, latency) == pytest.approx(hard, abs=1e-7)
    assert reward(MnasNetProduct(75.0), 0.75, 1, 37.5) == pytest.approx(0.7872875, abs=1e-7)


def test_without_a_target_it_is_the_mean_cost_of_the_space() -> None:
    module = make()
    fixed, step = (SPACE.cost(SPACE.validate(dict.fromkeys(NAMES, o)), MACS) for o in ("blur", "keep"))
    mean = fixed + (step - fixed) / 3  # a third of the layers has a convolution
    assert module.costs.uniform == pytest.approx(mean, rel=0.1)
    dear, cheap = (Architecture.of("toy", dict.fromkeys(NAMES, o)) for o in ("keep", "blur"))
    rewards = [module.reward(Trial(0, a, {}, (0.5,), 1.0, None)) for a in (dear, cheap)]
    assert rewards[0] < 0.5 < rewards[1]


def test_a_missing_table_is_measured_and_a_penalty_must_be_a_reward() -> None:
    measured = make(table=None).table
    assert measured is not None
    assert measured.unit == "ms"
    with pytest.raises(ConfigError, match="mnasnet_hard"):
        make(penalty=AddLinear())
