"""Regularized evolution (arXiv:1802.01548)."""

from pathlib import Path
from typing import Any

import pytest

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, InvalidArchitecture
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.trials.book import Trial
from lightning_nas.trials.engines.base import Engine


def make(engine: Engine, seed: int = 0, **options: Any) -> RegularizedEvolution:
    space, sizes = ToySpace(LAYERS), {"population": 8, "sample": 3}
    return RegularizedEvolution(space, Classification(), Macs()(space), engine=engine, seed=seed, **sizes | options)


class TestRegularizedEvolution(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


class TestWithoutAgeing(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return lambda engine, seed=0, **options: make(engine, seed, ageing=False, **options)


def search(folder: Path, **options: Any) -> RegularizedEvolution:
    module = make(ToyEngine(), in_flight=1, **options)
    fit(module, None, folder, epochs=1, every=1000)
    return module


def of(module: RegularizedEvolution) -> dict[int, Trial]:
    return {trial.number: trial for trial, _ in module.history}


def test_every_child_differs_from_its_parent_in_one_decision(tmp_path: Path) -> None:
    trials = of(search(tmp_path, trials=60, identity=0.0))
    for trial in list(trials.values())[8:]:
        parent = trials[trial.info["parent"]].architecture
        assert sum(a != b for a, b in zip(parent.options, trial.architecture.options, strict=True)) == 1


def test_so_many_children_are_copies_of_their_parents(tmp_path: Path) -> None:
    trials = of(search(tmp_path, trials=400, identity=0.3))
    copies = [trials[t.info["parent"]].architecture == t.architecture for t in list(trials.values())[8:]]
    assert sum(copies) / len(copies) == pytest.approx(0.3, abs=0.08)


def test_parents_are_of_the_youngest(tmp_path: Path) -> None:
    """Ageing: the population is the last P trials, so nobody older is ever a parent."""
    for number, trial in of(search(tmp_path, trials=60)).items():
        if number >= 8:
            assert number - 8 <= trial.info["parent"] < number


def test_nobody_is_bred_before_the_population_is_full(tmp_path: Path) -> None:
    """With twelve proposals open nineteen are drawn until eight members are there to be parents."""
    module = make(ToyEngine(), in_flight=12, trials=40, identity=0.0)
    fit(module, None, tmp_path, epochs=1, every=1000)
    bred = [number for number, trial in of(module).items() if trial.info]
    assert bred == list(range(8 + 12 - 1, 40))


def test_its_table_has_the_ages_of_the_youngest(tmp_path: Path) -> None:
    module = search(tmp_path, trials=60)
    rows = module.tables()["population"]
    assert [(row["trial"], row["age"]) for row in rows] == [(59 - age, age) for age in range(7, -1, -1)]
    assert [row["reward"] for row in rows] == [reward for _, reward in module.history[-8:]]


def test_without_ageing_the_best_stays_and_may_be_a_parent_for_ever(tmp_path: Path) -> None:
    module = search(tmp_path, trials=120, ageing=False)
    rewards = [module.history[place][1] for place in module.population]
    assert max(rewards) == max(reward for _, reward in module.history)
    assert any(trial.number - trial.info["parent"] > 8 for trial, _ in module.history[8:])


def test_a_sample_of_the_whole_population_makes_the_best_the_parent(tmp_path: Path) -> None:
    trials = of(search(tmp_path, trials=40, sample=400))
    for number in range(8, 40):
        population = [trials[i].architecture for i in range(number - 8, number)]
        assert toy_worth(trials[trials[number].info["parent"]].architecture) == max(map(toy_worth, population))


def test_more_members_than_trials_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"population=50.*20 trials"):
        make(ToyEngine(), trials=20, population=50)


def test_it_starts_with_architectures_of_files(tmp_path: Path) -> None:
    given = ToySpace(LAYERS).best
    given.save(tmp_path / "given.json")
    module = search(tmp_path, trials=12, start=[str(tmp_path / "given.json")])
    assert module.history[0][0].architecture == given
    assert module.history[1][0].architecture != given


def test_it_starts_with_architectures_of_the_zoo() -> None:
    names = ["nasbench201_resnet", "nasbench201_all_conv3x3"]
    space = NASBench201Space()
    module = RegularizedEvolution(
        space, Classification(), engine=ToyEngine(), population=8, sample=3, trials=20, start=names
    )
    first = [module.propose(number) for number in range(3)]
    assert first[:2] == [zoo.load(name) for name in names]
    assert isinstance(first[2], Architecture)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (["fbnet_c"], "strategy.start: 'fbnet_c': .*of the space 'fbnet', not of 'toy'"),
        (["fbnet_cc"], "'fbnet_cc' is neither a file nor a zoo name"),
    ],
)
def test_starts_that_cannot_be_are_named(start: list[str], says: str) -> None:
    with pytest.raises(InvalidArchitecture, match=says):
        make(ToyEngine(), start=start)


def test_more_starts_than_members_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"9 architectures.*population=8"):
        make(ToyEngine(), start=["fbnet_c"] * 9)


def test_without_ageing_the_best_stays_although_several_children_are_open(tmp_path: Path) -> None:
    module = make(ToyEngine(slots=4), in_flight=4, trials=80, ageing=False, sample=8)
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert module.history[module._best][1] == max(module.history[place][1] for place in module.population)
