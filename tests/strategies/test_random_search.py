"""Random search by trials: the baseline."""

from pathlib import Path
from typing import Any

import pytest

from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.trials.engines.base import Engine


class TestRandomSearch(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        def make(engine: Engine, seed: int = 0, **options: Any) -> RandomSearch:
            space = ToySpace(LAYERS)
            return RandomSearch(space, Classification(), Macs()(space), engine=engine, seed=seed, **options)

        return make

    def test_it_finds_the_best_more_often_than_random_search(self, make: MakeTrials, tmp_path: Path) -> None:
        pytest.skip("it is the random search")
