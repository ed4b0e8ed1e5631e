"""Successive halving (arXiv:1502.07943) and its asynchronous form (arXiv:1810.05934)."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rungs import RUNGS, Figures, figure
from torch.optim import SGD

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.lengths import check_search
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.multi_trial.asha import ASHA
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.multi_trial.successive_halving import RungSearch, SuccessiveHalving
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, BrokenDownError, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.proxy_child import ProxyChild
from lightning_nas.trials.requests import Request, Response

SPACE = ToySpace(LAYERS)
ETA = 3


def halving(engine: Engine, seed: int = 0, **options: Any) -> SuccessiveHalving:
    return SuccessiveHalving(SPACE, Classification(), Macs()(SPACE), engine=engine, seed=seed, **options)


def asha(engine: Engine, seed: int = 0, **options: Any) -> ASHA:
    return ASHA(SPACE, Classification(), Macs()(SPACE), engine=engine, seed=seed, **options)


def found_in_equal_epochs(make: MakeTrials, folder: Path, seeds: int = 12) -> tuple[int, int]:
    """How often the best is found, and how often by random search in as many epochs of whole trainings."""

    def worth(architecture: Architecture, epochs: int) -> float:
        return architecture.options.count("keep") / LAYERS * (1 - 0.5**epochs)

    found, by_chance = 0, 0
    for seed in range(seeds):
        engine = Figures(worth)
        module = make(engine, seed=seed, trials=117)  # three brackets
        fit(module, None, folder / f"{seed}", epochs=1, every=1000)
        found += any(trial.architecture == SPACE.best for trial, _ in module.history)
        trials = engine.epochs // RUNGS[-1]
        random = RandomSearch(SPACE, Classification(), engine=Figures(worth), trials=trials, seed=seed)
        fit(random, None, folder / f"random {seed}", epochs=1, every=1000)
        by_chance += random.answer() == SPACE.best
    return found, by_chance


class TestSuccessiveHalving(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return halving

    def test_it_finds_the_best_more_often_than_random_search(self, make: MakeTrials, tmp_path: Path) -> None:
        found, by_chance = found_in_equal_epochs(partial(make, initial=27), tmp_path)
        assert found > by_chance


class TestASHA(TrialStrategyCase):
    @pytest.fixture
    def make(self) -> MakeTrials:
        return asha

    def test_it_finds_the_best_more_often_than_random_search(self, make: MakeTrials, tmp_path: Path) -> None:
        found, by_chance = found_in_equal_epochs(make, tmp_path)
        assert found > by_chance


# -- the papers' algorithms -------------------------------------------------------------------------------------


def trials_of(module: RungSearch) -> list[tuple[Architecture, int | None]]:
    return [(trial.architecture, trial.epochs) for trial, _ in module.history]


def test_promotions_of_halving_are_those_of_the_algorithm(tmp_path: Path) -> None:
    """Algorithm 1 of arXiv:1810.05934 on the architectures that the search began with."""
    engine = Figures()
    module = halving(engine, initial=20, trials=56)
    fit(module, None, tmp_path, epochs=1, every=1000)
    expected = list[tuple[Architecture, int | None]]()
    for bracket in (module.history[:28], module.history[28:]):
        alive = [trial.architecture for trial, _ in bracket if trial.epochs == RUNGS[0]]
        assert len(alive) == 20
        for rung, epochs in enumerate(RUNGS):
            alive = sorted(alive, key=lambda a: -figure(a, RUNGS[rung - 1]))[: 20 // ETA**rung] if rung else alive
            expected += [(architecture, epochs) for architecture in alive]
    assert trials_of(module) == expected
    sizes = [20 // ETA**rung for rung in range(3)]
    formula = sum(n * (r - before) for n, r, before in zip(sizes, RUNGS, (0, *RUNGS), strict=False))
    assert engine.epochs == 2 * formula == sum(trial.seconds for trial, _ in module.history)
    begun = [architecture for architecture, epochs in trials_of(module) if epochs == RUNGS[0]]
    assert len(set(begun)) == len(begun) == 40


def test_promotions_of_asha_are_those_of_the_algorithm(tmp_path: Path) -> None:
    """Algorithm 2 of arXiv:1810.05934 with one worker, on the architectures that the search began with."""
    engine = Figures()
    module = asha(engine, trials=80, in_flight=1)
    fit(module, None, tmp_path, epochs=1, every=1000)
    begun = iter([architecture for architecture, epochs in trials_of(module) if epochs == RUNGS[0]])
    rungs: list[dict[Architecture, float]] = [{}, {}, {}]
    promoted: list[set[Architecture]] = [set(), set(), set()]
    expected, last = list[tuple[Architecture, int | None]](), len(RUNGS) - 1
    while len(expected) < 80:
        job = None
        for k in range(last - 1, -1, -1):
            best = sorted(rungs[k], key=lambda a, k=k: -rungs[k][a])[: len(rungs[k]) // ETA]
            if promotable := [a for a in best if a not in promoted[k]]:
                promoted[k].add(promotable[0])
                job = promotable[0], k + 1
                break
        architecture, k = job or (next(begun), 0)
        rungs[k][architecture] = figure(architecture, RUNGS[k])
        expected.append((architecture, RUNGS[k]))
    assert trials_of(module) == expected
    assert len(rungs[2]) > 3
    assert engine.epochs == sum(len(rung) * (r - b) for rung, r, b in zip(rungs, RUNGS, (0, *RUNGS), strict=False))


def test_a_continued_trial_has_the_seed_of_the_one_that_began(tmp_path: Path) -> None:
    engine = Figures()
    fit(halving(engine, trials=13), None, tmp_path, epochs=1, every=1000)
    first = {request.architecture: request for request in engine.asked[:9]}
    for request in engine.asked[9:]:
        assert request.seed == first[request.architecture].seed
        assert request.resumes == engine.asked[0].keep.replace("0.pt", f"{before(engine, request)}.pt")
    assert [(request.after, request.epochs) for request in engine.asked[9:]] == [(1, 3)] * 3 + [(3, 9)]
    assert len({request.seed for request in engine.asked}) == 9


def before(engine: Figures, request: Request) -> int:
    """The latest earlier trial of the same architecture."""
    return max(r.trial for r in engine.asked if r.architecture == request.architecture and r.trial < request.trial)


# -- training in parts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> ToyData:
    made = ToyData(256)
    made.setup("fit")
    return made


def child(**options: Any) -> Child:
    return Child(**{"epochs": 5, "optimizer": partial(SGD, lr=0.1, momentum=0.9), "limit_train_batches": 3} | options)


def state(file: Path) -> dict[str, Any]:
    content = load_checked(file)
    return {"network": content["state_dict"], "optimizer": content["optimizer_states"][0]["state"]}


def test_a_training_in_parts_equals_one_without_pauses_to_the_bit(data: ToyData, tmp_path: Path) -> None:
    def part(name: str, **options: Any) -> Response:
        asked = {"trial": 3, "attempt": 1, "architecture": ToySpace().best, "seed": 7, "keep": str(tmp_path / name)}
        return child().work(Request(**asked | options), ToySpace(), data, Classification())

    with one_thread():
        whole = part("whole.pt", epochs=4)
        first = part("1.pt", epochs=1)
        second = part("2.pt", epochs=3, after=1, resumes=str(tmp_path / "1.pt"))
        third = part("3.pt", epochs=4, after=3, resumes=str(tmp_path / "2.pt"))
        again = part("again.pt", epochs=4, after=3, resumes=str(tmp_path / "lost.pt"))  # begins anew
        plain = child().work(Request(3, 1, ToySpace().best, 7), ToySpace(), data, Classification())
    assert whole.status == "finished", whole.reason
    assert [len(response.curve) for response in (first, second, third)] == [1, 2, 1]
    assert first.curve + second.curve + third.curve == whole.curve == plain.curve[:4]
    assert again.curve == third.curve
    for name in ("3.pt", "again.pt"):
        torch.testing.assert_close(state(tmp_path / name), state(tmp_path / "whole.pt"), rtol=0, atol=0)


def test_a_rung_beyond_the_training_or_patience_is_a_failure_with_its_reason(data: ToyData) -> None:
    for made, says in ((child(epochs=2), r"child.epochs=2"), (child(patience=1), "child.patience=1")):
        response = made.work(Request(0, 1, ToySpace().best, 0, epochs=3), ToySpace(), data, Classification())
        assert response.status == "failed"
        assert response.reason
        assert says in response.reason


@pytest.mark.parametrize("make", [SuccessiveHalving, ASHA])
def test_processes_and_a_kill_change_nothing(make: type[RungSearch], data: ToyData, tmp_path: Path) -> None:
    """The same search in this process, in others, and after a kill between two rungs: results, and epochs trained."""
    space, ends = ToySpace(), list[Any]()
    job = ObjectsJob(data, space, Classification(), child(epochs=3))
    own = {"initial": 4} if make is SuccessiveHalving else {}

    def search(engine: Engine, folder: Path) -> list[Any]:
        module = make(space, Classification(), engine=engine, rungs=(1, 3), eta=2, trials=6, in_flight=2, **own)
        fit(module, None, folder, epochs=1, every=1000)
        return [(trial.architecture, trial.epochs, trial.curve) for trial, _ in module.history]

    with one_thread():
        ends = search(SerialEngine(job), tmp_path / "serial")
        assert [len(curve) for _, _, curve in ends] == [epochs - (epochs > 1) for _, epochs, _ in ends]
        assert search(LocalEngine(job, slots=2), tmp_path / "local") == ends
        counted = Counted(job, most=5)
        with pytest.raises(BrokenDownError):
            search(counted, tmp_path / "killed")
        rest = Counted(job)
        assert search(rest, tmp_path / "killed") == ends
    assert counted.trained + rest.trained == [len(curve) for _, _, curve in ends]


class Counted(SerialEngine):
    """Counts the epochs that are trained, and breaks down."""

    def __init__(self, job: ObjectsJob, most: int | None = None) -> None:
        super().__init__(job)
        self.trained, self.most = list[int](), most

    def finished(self, timeout: float) -> list[Response]:
        if len(self.trained) == self.most:
            raise BrokenDownError
        responses = super().finished(timeout)
        self.trained += [len(response.curve) for response in responses]
        return responses


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rungs": (3, 3)}, r"strategy\.rungs=\[3, 3\].*rise"),
        ({"initial": 8}, r"strategy\.initial=8.*at least 9"),
        ({"median_stop": True}, r"strategy\.median_stop"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        halving(ToyEngine(), **options)


def test_rungs_beyond_the_training_in_this_process_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.rungs=\[1, 3, 9\].*child\.epochs=9"):
        SuccessiveHalving(SPACE, child=Child(epochs=3))
    with pytest.raises(ConfigError, match=r"child: ProxyChild trains nothing in parts"):
        SuccessiveHalving(SPACE, child=ProxyChild())


def test_a_training_in_parts_has_no_patience() -> None:
    with pytest.raises(ConfigError, match=r"child\.patience=2.*legal: null"):
        SuccessiveHalving(ToySpace(), child=Child(epochs=9, patience=2))
    with pytest.raises(ConfigError, match=r"child\.patience=2.*legal: null"):
        check_search(SuccessiveHalving, 1, child={"epochs": 9, "patience": 2})


def test_rungs_that_the_table_does_not_have_are_refused() -> None:
    engine = Figures()
    engine.lengths = (12, 200)
    with pytest.raises(ConfigError, match=r"12, 200 epochs alone; set strategy\.rungs=\[12, 200\]"):
        halving(engine)
    assert halving(engine, rungs=(12, 200)).rungs == (12, 200)
