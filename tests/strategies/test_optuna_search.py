"""Samplers of Optuna (arXiv:1907.10902)."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, NumericalError
from lightning_nas.latency.sources import Macs
from lightning_nas.report.pareto import pareto
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.strategies.multi_trial.optuna_search import OptunaSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.trials.engines.base import Engine

optuna = pytest.importorskip("optuna")
SPACE = ToySpace(LAYERS)
MACS = Macs()(SPACE)  # to keep the image costs more than to lose it
NSGA2: dict[str, Any] = {"sampler": "nsga2", "sampler_options": {"population_size": 8}}


def make(engine: Engine, seed: int = 0, **options: Any) -> OptunaSearch:
    return OptunaSearch(SPACE, Classification(), MACS, engine=engine, seed=seed, **options)


def cost_of(kept: int) -> float:
    """The cost of an architecture that keeps the image in that number of layers."""
    options = ("keep",) * kept + ("blur",) * (LAYERS - kept)
    return SPACE.cost(SPACE.validate(dict(zip((d.name for d in SPACE.decisions), options, strict=True))), MACS)


class TestTpe(TrialStrategyCase):
    seeds, found_at_least = 6, 4

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


class TestNsga2WithTheCost(TrialStrategyCase):
    seeds, found_at_least = 8, 4
    search_options: ClassVar = {"minimize_cost": False}  # else it looks along the whole front

    @pytest.fixture
    def make(self) -> MakeTrials:
        return lambda engine, seed=0, **options: make(engine, seed, **{"minimize_cost": True} | NSGA2 | options)


def searched(folder: Path, **options: Any) -> OptunaSearch:
    module = make(ToyEngine(), **{"trials": 60} | options)
    fit(module, None, folder, epochs=1, every=1000)
    return module


@pytest.mark.parametrize("sampler", ["random", "gp", "qmc", "nsga3", "bruteforce"])
def test_other_samplers_resume_exactly_too(sampler: str, tmp_path: Path) -> None:
    case, engine = TestTpe(), ToyEngine(noise=0.1)
    how = {"trials": 14, "every": 1, "sampler": sampler}
    case.search(make, tmp_path, engine, **how)
    whole = case.ended
    last = sorted((tmp_path / "checkpoints").glob("*.ckpt"))[6]
    case.search(make, tmp_path, engine, resume=last, **how)
    assert case.ended == whole


@pytest.mark.parametrize("options", [{}, {"minimize_cost": True}])
def test_with_failed_children_it_resumes_exactly(options: dict[str, Any], tmp_path: Path) -> None:
    engine = ToyEngine(noise=0.1, fails=lambda taken: "NaN" if taken.options[0] != "keep" else None)
    case, how = TestTpe(), {"trials": 30, "every": 1, **options}
    whole = case.search(make, tmp_path, engine, **how)
    ended, tried = case.ended, [trial.architecture for trial, _ in whole.history]
    last = sorted((tmp_path / "checkpoints").glob("*.ckpt"))[14]
    (tmp_path / "trials.jsonl").rename(tmp_path / "before.jsonl")
    lines = (tmp_path / "before.jsonl").read_text().splitlines(keepends=True)
    known = load_checked(last)["lightning_nas_events"]
    (tmp_path / "trials.jsonl").write_text("".join(lines[:known]))
    again = case.search(make, tmp_path, engine, resume=last, **how)
    assert [trial.architecture for trial, _ in again.history] == tried
    assert case.ended == ended


def test_two_objectives_give_a_front_and_its_costly_end_is_the_answer(tmp_path: Path) -> None:
    """Each layer that keeps the image is worth 1 / 5 and has a price: the front is known."""
    module = searched(tmp_path, minimize_cost=True, trials=150, **NSGA2)
    points = [(module.cost(trial.architecture) or 0.0, reward) for trial, reward in module.history]
    best = [(cost_of(kept), kept / LAYERS) for kept in range(LAYERS + 1)]
    assert len(set(pareto(points)) & set(best)) >= LAYERS
    assert {tuple(trial.values[::-1]) for trial in module.study.best_trials} == set(pareto(points))
    assert toy_worth(module.answer()) == max(reward for _, reward in points)


def test_under_a_limit_the_answer_is_the_best_that_keeps_it(tmp_path: Path) -> None:
    module = searched(tmp_path, limit=cost_of(3))
    kept = [reward for trial, reward in module.history if (module.cost(trial.architecture) or 0) <= cost_of(3)]
    assert len(kept) > 30  # the sampler looks for them: of all architectures 79 %, of good ones few
    assert toy_worth(module.answer()) == max(kept) == pytest.approx(0.6)


def test_a_limit_below_the_cheapest_is_refused_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"limit=1 MACs: the cheapest .* costs {cost_of(0):g} MACs"):
        make(ToyEngine(), limit=1.0)
    with pytest.raises(NumericalError, match="none of 1 trials"):  # every trial kept to the sampler's start
        searched(tmp_path, limit=cost_of(0), trials=1, sampler="random", seed=1).answer()


@pytest.mark.parametrize("in_flight", [1, 4])
def test_an_exhausted_sampler_ends_the_search_with_the_best(in_flight: int, tmp_path: Path) -> None:
    every = 3**LAYERS
    module = searched(tmp_path, sampler="bruteforce", trials=4 * every, in_flight=in_flight, limit=None)
    tried = {trial.architecture for trial, _ in module.history}
    assert len(tried) == every
    assert len(module.history) < every + in_flight
    assert module.exhausted
    assert toy_worth(module.answer()) == max(map(toy_worth, tried))


def test_an_exhausted_grid_ends_the_search(tmp_path: Path) -> None:
    grid = {d.name: list(d.options)[: 2 if i < 2 else 1] for i, d in enumerate(SPACE.decisions)}
    options = {"search_space": grid}
    module = searched(tmp_path, sampler="grid", sampler_options=options, in_flight=1)
    assert len(module.history) == 4
    assert module.answer() in [trial.architecture for trial, _ in module.history]


def test_what_is_not_decided_is_no_parameter(tmp_path: Path) -> None:
    space = PNASSpace(image_size=8, in_channels=1, cells=1, filters=4, blocks=3)
    engine = ToyEngine(worth=lambda architecture: int(architecture["blocks"]) / 3)
    module = OptunaSearch(space, Classification(), engine=engine, trials=20)
    fit(module, None, tmp_path, epochs=1, every=1000)
    for (trial, _), asked in zip(module.history, module.study.get_trials(), strict=True):
        assert asked.params == dict(trial.architecture.choices)
    assert len({len(asked.params) for asked in module.study.get_trials()}) == 3


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install lightning_nas\[optuna\]"):
        make(ToyEngine())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sampler": "tpee"}, "tpee.*random, tpe"),
        ({"sampler": "cmaes"}, "cmaes.*bruteforce, gp"),  # which knows no choices
        ({"sampler_options": {"startup": 3}}, "no 'startup'; legal: .*n_startup_trials"),
        ({"sampler": "nsga2", "sampler_options": {"population_size": 1}}, "nsga2 refuses them"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(ToyEngine(), **options)


def test_a_cost_needs_a_table() -> None:
    with pytest.raises(ConfigError, match="latency_table="):
        OptunaSearch(SPACE, Classification(), engine=ToyEngine(), minimize_cost=True)


def test_a_cheap_architecture_that_failed_is_not_on_the_front(tmp_path: Path) -> None:
    engine = ToyEngine(fails=lambda architecture: "NaN" if toy_worth(architecture) < 0.5 else None)
    module = OptunaSearch(SPACE, Classification(), MACS, engine=engine, trials=60, minimize_cost=True, **NSGA2)
    fit(module, None, tmp_path, epochs=1, every=1000)
    failed = {trial.number for trial, _ in module.history if trial.failed}
    assert failed
    assert not failed & {trial.number for trial in module.study.best_trials}


def test_failed_trials_have_the_worst_value_and_are_avoided(tmp_path: Path) -> None:
    def bad(taken: Architecture) -> bool:
        return taken.options[0] != "keep"

    def lost(fails: bool) -> int:
        engine = ToyEngine(fails=lambda taken: "NaN" if fails and bad(taken) else None, worth=lambda _: 0.5)
        module = OptunaSearch(SPACE, Classification(), engine=engine, trials=80, reuse=False)
        fit(module, None, tmp_path / str(fails), epochs=1, every=1000)
        for told, (trial, _) in zip(module.study.trials, module.history, strict=True):
            assert told.value == (0.0 if trial.failed else 0.5)
        return sum(bad(trial.architecture) for trial, _ in module.history[20:])

    assert lost(True) < lost(False) / 2


def test_it_starts_with_what_it_is_given_and_learns_from_it(tmp_path: Path) -> None:
    SPACE.best.save(tmp_path / "given.json")
    module = make(ToyEngine(), trials=12, start=[str(tmp_path / "given.json")])
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert module.history[0][0].architecture == SPACE.best
    assert module.history[1][0].architecture != SPACE.best
    assert module.study.best_trial.number == 0
    names = ["nasbench201_resnet", "nasbench201_all_conv3x3"]
    on_cells = OptunaSearch(NASBench201Space(), Classification(), engine=ToyEngine(), start=names, in_flight=4)
    assert [on_cells.propose(number) for number in range(2)] == [zoo.load(name) for name in names]


def test_a_sampler_that_cannot_go_on_is_named(tmp_path: Path) -> None:
    """The grid has other names than the space."""
    options = {"sampler": "grid", "sampler_options": {"search_space": {"layer": ["keep"]}}}
    module = OptunaSearch(ToySpace(2), Classification(), engine=ToyEngine(), trials=40, **options)
    with pytest.raises(ConfigError, match=r"strategy\.sampler: GridSampler .* not found in the given grid"):
        fit(module, None, tmp_path, epochs=1, every=1000)
