"""Random search by trials: the baseline."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import binomtest, chisquare

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.trials.book import Proposal, Trial
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


class TestExploring(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        def make(engine: Engine, seed: int = 0, **options: Any) -> RandomSearch:
            space = ToySpace(LAYERS)
            options = {"explore": 0.7, "near": 2, **options}
            return RandomSearch(space, Classification(), Macs()(space), engine=engine, seed=seed, **options)

        return make


class Remembered:
    """What proposing asks of a search: trials in the order of their rewards, some of which failed."""

    def __init__(self, search: RandomSearch, rewards: list[float], failed: frozenset[int] = frozenset()) -> None:
        drawn = torch.Generator().manual_seed(7)
        self.trials = [
            Trial(
                n,
                search.space.sample(drawn),
                {},
                () if n in failed else (reward,),
                1.0,
                "lost" if n in failed else None,
            )
            for n, reward in enumerate(rewards)
        ]
        search.history = list(zip(self.trials, rewards, strict=True))
        search.book = SimpleNamespace(returned=SimpleNamespace(rewards=rewards))  # type: ignore[assignment]


def search_with(rewards: list[float], failed: frozenset[int] = frozenset(), **options: Any) -> RandomSearch:
    search = RandomSearch(ToySpace(6), **options)
    Remembered(search, rewards, failed)
    return search


def changed(a: Architecture, b: Architecture) -> int:
    return sum(x != y for x, y in zip(a.options, b.options, strict=True))


def test_without_exploration_trials_are_those_of_the_plain_search() -> None:
    search = search_with([0.1, 0.9], explore=0.0)
    plain = [search.space.sample(search.rng("propose", n)) for n in range(20)]
    assert [search.propose(n) for n in range(20)] == plain


def test_explored_trials_change_one_decision_of_one_of_the_best() -> None:
    rewards = [0.1, 0.9, 0.5, 0.9, 0.3, 0.95]
    search = search_with(rewards, frozenset({5}), explore=1.0, near=3)
    found = Counter[int]()
    for number in range(300):
        proposal = search.propose(number)
        assert isinstance(proposal, Proposal)
        parent = proposal.info["near"]
        found[parent] += 1
        assert changed(proposal.architecture, search.history[parent][0].architecture) == 1
    assert set(found) == {1, 3}  # of the three best one failed
    assert chisquare(list(found.values())).pvalue > 1e-4


def test_the_share_of_explored_trials_is_the_one_asked_for() -> None:
    search = search_with([0.5, 0.6], explore=0.3)
    explored = sum(isinstance(search.propose(number), Proposal) for number in range(600))
    assert binomtest(explored, 600, 0.3).pvalue > 1e-4


def test_the_first_trial_has_nothing_to_explore() -> None:
    search = search_with([], explore=1.0)
    assert search.propose(0) == search.space.sample(search.rng("propose", 0))
    assert search.blind == 1
    assert search_with([], explore=0.0).blind == 0
