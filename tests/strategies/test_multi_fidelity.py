"""MF-NAS: local search on a figure without training, then successive halving (Phan and Luong, GECCO 2024)."""

from pathlib import Path
from typing import Any

import pytest
from rungs import Figures

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs, Params
from lightning_nas.ops.counts import count_params
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.multi_trial.multi_fidelity import MultiFidelity
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator
from lightning_nas.trials.engines.base import Engine

SPACE = ToySpace(LAYERS)
CELLS = NASBench201Space("toy", image_size=8, in_channels=1, channels=4, cells=[1])


def make(engine: Engine, seed: int = 0, **options: Any) -> MultiFidelity:
    return MultiFidelity(SPACE, Classification(), Macs()(SPACE), engine=engine, seed=seed, **{"looks": 60} | options)


class TestMultiFidelity(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


def test_it_looks_until_the_largest_and_all_its_neighbours_are_seen() -> None:
    search = MultiFidelity(CELLS, engine=ToyEngine(), looks=2000)
    seen = search.seen(generator(0, "figures"))
    assert len(seen) == 2000
    largest = CELLS.validate(dict.fromkeys((d.name for d in CELLS.decisions), "nor_conv_3x3"))
    assert max(seen, key=lambda a: seen[a]) == largest
    assert seen.keys() >= set(CELLS.neighbours(largest, generator(0)))
    for architecture in list(seen)[:20]:
        assert seen[architecture] == count_params(CELLS.network(architecture))


def test_a_small_space_is_seen_whole_and_the_search_of_it_ends() -> None:
    search = MultiFidelity(ToySpace(2), engine=ToyEngine(), looks=1000)
    assert len(search.seen(generator(0, "figures"))) == 9


def test_the_largest_begin_in_order_and_those_within_the_target_alone(tmp_path: Path) -> None:
    params, engine = Params()(CELLS), Figures()
    module = MultiFidelity(CELLS, Classification(), params, engine=engine, trials=13, looks=3000)
    fit(module, None, tmp_path / "free", epochs=1, every=1000)
    everything = sorted((CELLS.cost(a, params) for a in CELLS.different(3000, generator(1))), reverse=True)
    begun = [CELLS.cost(trial.architecture, params) for trial, _ in module.history[:9]]
    assert begun == sorted(begun, reverse=True)
    assert begun[-1] >= everything[8]
    limit = 0.5 * begun[0]
    module = MultiFidelity(CELLS, Classification(), params, engine=Figures(), trials=13, looks=3000, target=limit)
    fit(module, None, tmp_path / "bounded", epochs=1, every=1000)
    bounded: list[Architecture] = [trial.architecture for trial, _ in module.history]
    assert all(CELLS.cost(architecture, params) <= limit for architecture in bounded)
    assert max(CELLS.cost(architecture, params) for architecture in bounded) > 0.9 * limit
