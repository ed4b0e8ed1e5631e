"""Local search (arXiv:2005.02960)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator, mix
from lightning_nas.trials.engines.base import Engine

SPACE = ToySpace(LAYERS)


def make(engine: Engine, seed: int = 0, **options: Any) -> LocalSearch:
    return LocalSearch(SPACE, Classification(), Macs()(SPACE), engine=engine, seed=seed, **options)


class TestLocalSearch(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def rugged(architecture: Architecture) -> float:
    """A reward with many local optima."""
    return (mix("rugged", *architecture.options) % 1000) / 1000


def neighbours(architecture: Architecture) -> list[Architecture]:
    return [a for a in everything() if sum(x != y for x, y in zip(a.options, architecture.options, strict=True)) == 1]


def everything() -> list[Architecture]:
    return SPACE.different(3**LAYERS, generator(0, "all"))


def search(folder: Path, **options: Any) -> LocalSearch:
    module = make(ToyEngine(worth=rugged), in_flight=1, **options)
    fit(module, None, folder, epochs=1, every=1000)
    return module


def test_neighbours_are_those_of_brute_force() -> None:
    for architecture in SPACE.different(5, generator(0, "some")):
        found = SPACE.neighbours(architecture, torch.Generator())
        assert len(found) == 2 * LAYERS
        assert set(found) == set(neighbours(architecture))


def test_it_climbs_to_local_optima_and_starts_again(tmp_path: Path) -> None:
    """A climb ends where brute force finds no better neighbour, and goes on from neighbours of earlier climbs."""
    known: set[Architecture] = set()
    centre, module = None, search(tmp_path, trials=150)
    for trial, reward in module.history:
        if "start" in trial.info:
            assert centre is None or known >= set(neighbours(centre))
            assert centre is None or rugged(centre) >= max(map(rugged, neighbours(centre)))
            centre = None
        else:
            assert module.history[trial.info["centre"]][0].architecture == centre
            assert trial.architecture in neighbours(centre)
        known.add(trial.architecture)
        better = trial.architecture if centre is None or reward > rugged(centre) else centre
        while better != centre:
            centre = better
            better = max([centre, *known & set(neighbours(centre))], key=rugged)
    assert module.starts > 3


def test_no_architecture_is_trained_twice_in_a_climb(tmp_path: Path) -> None:
    module = search(tmp_path, trials=150)
    seen: set[Architecture] = set()
    for trial, _ in module.history:
        assert "start" in trial.info or trial.architecture not in seen
        seen.add(trial.architecture)


def test_it_finds_the_best_of_a_small_space(tmp_path: Path) -> None:
    module = search(tmp_path, trials=400)
    assert module.answer() == max(everything(), key=rugged)
