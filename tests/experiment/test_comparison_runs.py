"""The loop of a comparison on runs that only write files: pairs, failures, going on, statements and pages."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.errors import ConfigError, InputError, NumericalError
from lightning_nas.experiment.comparison.comparison import Comparison, compare_all
from lightning_nas.experiment.comparison.findings import BETTER, NOTHING, WORSE
from lightning_nas.experiment.comparison.pictures import mean_curve
from lightning_nas.experiment.comparison.plan import Budget, Plan, make_plan
from lightning_nas.experiment.comparison.runs import Curve
from lightning_nas.experiment.pairs import Parts
from lightning_nas.functional.comparing import interquartile_mean
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.one_path.random_ws import RandomWS
from lightning_nas.testing.toys import ToySpace
from lightning_nas.trials.engines.serial import SerialEngine

SPACE = ToySpace()


class FakeRun:
    """Writes what a run leaves: the figure of its strategy and seed."""

    def __init__(self, made: Fakes, strategy: str, task: str, seed: int, folder: Path) -> None:
        self.made, self.strategy, self.task, self.seed, self.folder = made, strategy, task, seed, folder
        self.space, self.target, self.stages = SPACE, None, ("search", "retrain")
        self.names, self.data = SimpleNamespace(dataset="toys"), SimpleNamespace(num_classes=4)
        self.trains_nothing, self.published, self.found = False, None, Architecture("toy", ())

    @contextmanager
    def at_work(self) -> Iterator[None]:
        yield

    def home(self, _: Architecture) -> ToySpace:
        return SPACE

    def given(self, name: str) -> Architecture:
        raise InputError(f"{name} is of another space")

    def search(self) -> None:
        self.made.searched.append((self.task, self.strategy, self.seed))
        if (self.strategy, self.seed) in self.made.failing:
            raise self.made.failing[self.strategy, self.seed]
        self.found = SPACE.best
        self.found.save(self.folder / "architecture.json")
        if self.strategy in self.made.trials:
            with (self.folder / "trials.csv").open("w") as file:
                writer = csv.DictWriter(file, TrialLogger.files["trials.csv"])
                writer.writeheader()
                for number, reward in enumerate(self.made.trials[self.strategy]):
                    writer.writerow({"trial": number, "reward": reward, "seconds": 2.0, "choices": "keep keep"})

    def retrain(self, _: Architecture | None = None) -> None:
        pass

    def report(self) -> None:
        name = getattr(self.names, "strategy", self.strategy)
        figures = self.made.figures.get(name, {})
        tau = {"kendall_tau": 0.5, "kendall_tau_macs": 0.25} if self.strategy == "random_ws" else {}
        result = {"test_acc": figures.get(self.seed, 0.5), "params": 10, "search_seconds": 3.0, **tau}
        (self.folder / "result.json").write_text(json.dumps(result))


@dataclass
class Fakes:
    """Makes such runs.

    Attributes:
        figures: by strategy and seed; 0.5 for the others.
        failing: what a run raises, by strategy and seed.
        trials: rewards by strategy.
        sharing: strategies that share weights.
        searched: by the runs so far.
        settings: of all runs.
    """

    figures: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    failing: dict[tuple[str, int], Exception] = field(default_factory=dict)
    trials: Mapping[str, list[float]] = field(default_factory=dict)
    sharing: tuple[str, ...] = ("random_ws",)
    searched: list[tuple[str, str, int]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def asked(self, strategy: str, task: str) -> dict[str, str]:
        return {"task": task, "strategy": strategy, **self.settings}

    def check(self, strategy: str, task: str) -> Parts:
        del task
        engine = None if strategy in self.sharing else SerialEngine
        return Parts(RandomWS if strategy in self.sharing else RandomSearch, ToySpace, "toy", engine, child=True)

    def run(self, *arguments: Any) -> Any:
        return FakeRun(self, *arguments)


def compared(
    folder: Path, made: Fakes, strategies: list[str], seeds: int = 8, tasks: tuple[str, ...] = ("toys",), **more: Any
) -> tuple[Comparison, list[str]]:
    said = list[str]()
    plan = make_plan(folder, strategies, tasks, seeds, Budget("trials", 5), made, **more)
    return compare_all(plan, made, ["lightning-nas", "compare", "x=a b"], said.append), said


def linear(start: float, step: float) -> dict[int, float]:
    return {seed: start + step * seed for seed in range(20)}


def finding(made: Comparison, name: str) -> Any:
    return next(f for f in made.findings.methods if f.name == name)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[str], Fakes]:
    figures = {"random": linear(0.5, 0.01), "up": linear(0.6, 0.01), "level": linear(0.5, 0.01), "down": linear(0.4, 0)}
    fakes = Fakes(
        {**figures, "level": {seed: 0.5 + 0.01 * seed + 0.02 * (-1) ** seed for seed in range(20)}},
        failing={("level", 3): RuntimeError("no luck"), ("level", 4): NumericalError("NaN at step 3")},
        trials={"random": [0.1, 0.3, 0.2], "up": [0.3, 0.5, 0.4]},
    )
    made, said = compared(tmp_path_factory.mktemp("three"), fakes, ["up", "level", "down"], seeds=10)
    return made, said, fakes


def test_verdicts_follow_the_paired_differences(three: tuple[Comparison, list[str], Fakes]) -> None:
    made = three[0]
    assert [f.name for f in made.findings.methods][:4] == ["random", "up", "level", "down"]
    verdicts = {f.name: f.verdict for f in made.findings.methods}
    assert (verdicts["up"], verdicts["level"], verdicts["down"]) == (BETTER, NOTHING, WORSE)
    assert verdicts["random_sampling"] == verdicts["random"] == ""
    up = finding(made, "up")
    assert up.difference == pytest.approx(0.1)
    assert up.difference_interval == pytest.approx((0.1, 0.1))
    assert up.p == pytest.approx(stats.wilcoxon([0.1] * 10).pvalue)
    assert up.p_corrected == pytest.approx(3 * up.p)
    expected = interquartile_mean(torch.tensor(list(linear(0.6, 0.01).values())[:10])).item()
    assert up.iqm == pytest.approx(expected)
    assert up.improvement == pytest.approx(1.0)
    assert up.gap == pytest.approx(0.045)  # the best of all runs is 0.69


def test_a_failed_run_is_counted_and_named_and_the_others_go_on(three: tuple[Comparison, list[str], Fakes]) -> None:
    made, said, _ = three
    level = finding(made, "level")
    assert (level.runs, level.failed) == (10, 2)
    assert level.difference == pytest.approx(0)  # seeds 3 and 4 have no partner, the others are +-0.02
    assert len(said) == 70
    assert any("toys level seed 3: failed: RuntimeError: no luck" in line for line in said)
    page = (made.folder / "comparison.html").read_text()
    assert "NaN at step 3" in page
    assert any("2 of 70 runs failed (level)" in note for note in made.findings.notes)
    content = json.loads((made.folder / "comparison.json").read_text())
    assert [(f["method"], f["seed"]) for f in content["failed"]] == [("level", 3), ("level", 4)]
    rows = list(csv.DictReader((made.folder / "comparison.csv").open()))
    assert len(rows) == 70
    assert [row["failed"] for row in rows if row["failed"]] == [
        "RuntimeError: no luck (see run.log)",
        "NaN at step 3",
    ]
    log = made.plan.run_folder("toys", "level", 3) / "run.log"
    assert "Traceback" in log.read_text()


def test_a_comparison_goes_on_where_it_stopped(three: tuple[Comparison, list[str], Fakes], tmp_path: Path) -> None:
    made, _, first = three
    folder = shutil.copytree(made.folder, tmp_path / "copy")
    fakes = replace(first, failing={("level", 4): NumericalError("NaN at step 3")}, searched=[])
    (folder / "runs" / "toys" / "up" / "seed_2" / "result.json").unlink()
    again, _ = compared(folder, fakes, ["up", "level", "down"], seeds=10)
    assert fakes.searched == [("toys", "up", 2), ("toys", "level", 3), ("toys", "level", 4)]
    assert finding(again, "level").failed == 1
    assert finding(again, "up") == finding(made, "up")
    before = len(fakes.searched)
    compared(folder, fakes, ["up"], seeds=11)  # fewer strategies, one seed more
    assert fakes.searched[before:] == [("toys", "random", 10), ("toys", "up", 10)]
    with pytest.raises(ConfigError, match=r"strategy\.x was None, is '2'; name another folder"):
        compared(folder, replace(fakes, settings={"strategy.x": "2"}), ["up"], seeds=10)


def test_the_page_is_whole_and_loads_nothing(three: tuple[Comparison, list[str], Fakes]) -> None:
    page = (three[0].folder / "comparison.html").read_text()
    for word in ("up is better than random", "down is worse than random", "No difference to random is shown of level"):
        assert word in page
    assert "x=a b" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    for title in ("Over trials and time", "Best practices", "Failed runs", "To repeat"):
        assert f"<h2>{title}</h2>" in page


def test_eleven_practices_are_filled_by_the_machine(three: tuple[Comparison, list[str], Fakes]) -> None:
    practices = three[0].practices
    assert [p.number for p in practices] == list(range(1, 15))
    assert sum(p.by_machine for p in practices) >= 11
    assert all(p.by_machine or p.said.startswith("to add:") for p in practices)
    assert "seeds: 0, 1, 2" in practices[8].said
    assert "2 of 70 runs failed" in practices[8].said
    assert torch.__version__.partition("+")[0] in practices[13].said


def test_few_pairs_show_nothing_however_far_apart(tmp_path: Path) -> None:
    """Every resample of three differences above 0 is above 0; so are those of one sign pattern of eight by chance."""
    made, _ = compared(tmp_path, Fakes({"up": linear(0.9, 0.001)}), ["up"], seeds=3)
    assert finding(made, "up").difference_interval[0] > 0
    assert finding(made, "up").verdict == NOTHING
    assert any("3 pairs cannot show" in note and "6 seeds can" in note for note in made.findings.notes)
    enough, _ = compared(tmp_path / "enough", Fakes({"up": linear(0.9, 0.001)}), ["up"], seeds=6)
    assert finding(enough, "up").verdict == BETTER


def test_equal_searches_are_seldom_told_apart(tmp_path: Path) -> None:
    """20 methods of noise alone, 8 seeds each: uncorrected one of them would differ."""
    rng = torch.Generator().manual_seed(9)
    names = [f"noise_{i}" for i in range(20)]
    noise = {name: dict(enumerate(torch.randn(8, generator=rng).tolist())) for name in ("random", *names)}
    made, _ = compared(tmp_path, Fakes(noise), names, seeds=8)
    assert not [f.name for f in made.findings.methods if f.verdict in (BETTER, WORSE)]
    assert [f.name for f in made.findings.methods if f.p is not None and f.p < 0.05]


def test_tasks_are_scaled_ranked_and_joined(tmp_path: Path) -> None:
    fakes = Fakes({"random": linear(0.5, 0.01), "up": linear(0.7, 0.01), "random_sampling": linear(0.3, 0.01)})
    made, _ = compared(tmp_path, fakes, ["up"], seeds=4, tasks=("one", "two", "three"))
    assert finding(made, "up").iqm == pytest.approx((0.715 - 0.315) / (0.73 - 0.315))
    assert finding(made, "random_sampling").iqm == pytest.approx(0, abs=1e-9)
    ranks = made.findings.ranks
    assert ranks is not None
    assert next(iter(ranks.ranks)) == "up"
    assert ranks.ranks["up"] == 1.0
    page = (tmp_path / "comparison.html").read_text()
    assert "critical difference" in page
    assert "0 is the mean of one random draw" in page


def test_shared_weights_bring_their_own_random_search(tmp_path: Path) -> None:
    fakes = Fakes(sharing=("random_ws", "one_shot"))
    with pytest.raises(ConfigError, match="nothing"):
        compared(tmp_path, fakes, ["one_shot"], against="nothing")
    made, _ = compared(tmp_path, fakes, ["one_shot"], seeds=2)
    assert made.plan.searches == ("random", "random_ws", "one_shot")
    found = finding(made, "random_ws")
    assert (found.tau, found.tau_over_macs) == (0.5, 0.25)
    assert "<h2>Rank fidelity</h2>" in (tmp_path / "comparison.html").read_text()


def test_curves_and_times_come_from_the_trials(three: tuple[Comparison, list[str], Fakes]) -> None:
    made = three[0]
    up, random = finding(made, "up"), finding(made, "random")
    assert (up.reached, up.trials_to, up.seconds_to) == (10, 2.0, 4.0)  # the best reward of all is 0.5
    assert (random.reached, random.trials_to) == (0, None)
    curves = [Curve("t", "m", s, (1.0, 3.0), (s, s + 1.0)) for s in (0, 1)]
    assert mean_curve(curves, by_seconds=False) == ([1.0, 2.0], [0.5, 1.5])


def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path: Path) -> None:
    fakes = Fakes()
    for seeds in (1, 0, -3, [4], [1, 1], [1, -1]):
        with pytest.raises(ConfigError, match="seeds: got"):
            make_plan(tmp_path, ["a"], ["t"], seeds, Budget("trials", 5), fakes)
    for strategies in ([], ["a", "a"], ["most_params"]):
        with pytest.raises(ConfigError, match="strategies"):
            make_plan(tmp_path, strategies, ["t"], 3, Budget("trials", 5), fakes)
    for given in ({}, {"trials": 0}, {"trials": 1.5}, {"hours": 3}, {"trials": 3, "epochs": 3}, {"seconds": True}):
        with pytest.raises(ConfigError, match="budget"):
            Budget.of(given)
    with pytest.raises(ConfigError, match=r"hand_made: .* another space"):
        compared(tmp_path, fakes, ["a"], hand_made="resnet")
    assert not fakes.searched
    assert not (tmp_path / "asked.json").exists()  # the folder is free for the command put right


def test_every_run_failing_is_an_error(tmp_path: Path) -> None:
    fakes = Fakes(failing={(name, seed): NumericalError("NaN") for name in ("random", "a") for seed in range(2)})
    made, _ = compared(tmp_path, fakes, ["a"], seeds=2)  # fixed networks still have figures
    assert finding(made, "a").iqm is None
    assert finding(made, "a").verdict == ""


def test_budgets_become_settings_of_each_family() -> None:
    fakes = Fakes()
    shared, trials = fakes.check("random_ws", "t"), fakes.check("random", "t")
    assert Budget("epochs", 30).settings("ws", shared, None) == {"trainer": {"max_epochs": 30}}
    assert Budget("seconds", 90).settings("ws", shared, None) == {"trainer": {"max_time": "00:00:01:30"}}
    assert Budget("epochs", 31).settings("r", trials, 3) == {"strategy": {"trials": 10, "seconds": None}}
    assert Budget("trials", 7).settings("r", trials, 3) == {"strategy": {"trials": 7, "seconds": None}}
    assert Budget("seconds", 9.5).settings("r", trials, 3)["strategy"]["seconds"] == 9.5
    with pytest.raises(ConfigError, match="has no trials"):
        Budget("trials", 7).settings("ws", shared, None)
    with pytest.raises(ConfigError, match="takes 12 epochs"):
        Budget("epochs", 7).settings("r", trials, 12)


def test_folders_of_runs_stay_inside(tmp_path: Path) -> None:
    plan = Plan(tmp_path, (), ("../../x",), (0, 1), Budget("trials", 1), "random", None)
    assert plan.run_folder("../../x", "a b", 1).resolve().is_relative_to(tmp_path.resolve() / "runs")
