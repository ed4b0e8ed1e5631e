"""The table over runs of any task: what was swept, means over equal settings alone, intervals that mean something."""

import csv
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from lightning_nas.report.sweep import FEWEST, Runs, as_text, half_interval, sheet, write_sweep

DIGITS = {"strategy": "fbnet", "search_space": "small", "dataset": "digits"}


def runs(*asked: str, **figures: list[Any]) -> Runs:
    """Runs that were asked for by overrides, separated by blanks, with one figure of each list."""
    made = []
    for number, overrides in enumerate(asked):
        keys = dict(override.split("=", 1) for override in overrides.split())
        names = {name: keys.get(name, DIGITS[name]) for name in DIGITS}
        mine = {name: values[number] for name, values in figures.items()}
        made.append((str(number), {**names, "seed": int(keys.get("seed", 0)), "overrides": overrides.split(), **mine}))
    return made


def printed(made: Runs) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_text(sheet(made)))
    return [line.split() for line in captured.get().splitlines() if line.strip(" ─\u2501-")]


@pytest.mark.parametrize(
    ("figure", "header", "shown"),
    [("test_acc", "accuracy", "0.5000"), ("test_ppl", "perplexity", "0.50"), ("test_f1", "f1", "0.5")],
)
def test_the_first_figure_is_that_of_the_task(figure: str, header: str, shown: str) -> None:
    lines = printed(runs("seed=0", "seed=1", **{figure: [0.4, 0.6]}, test_samples=[9, 9], params=[10, 10]))
    assert lines[0] == ["fbnet", "on", "small", "with", "digits"]
    assert lines[1] == ["run", "seed", header, "params", "steps"]
    assert lines[-1] == ["mean", "n=2", shown, "10"]


def test_runs_of_two_tasks_share_a_table() -> None:
    lines = printed(runs("dataset=digits", "dataset=text", test_acc=[0.4, None], test_ppl=[None, 80.0]))
    assert lines[1] == ["run", "dataset", "seed", "accuracy", "perplexity", "steps"]
    assert lines[2] == ["0", "digits", "0", "0.4000", "-", "-"]
    assert lines[3] == ["1", "text", "0", "-", "80.00", "-"]
    assert len(lines) == 4  # no mean


SWEEPS = {
    "trainer.max_epochs=": ["1", "2"],
    "dataset=": ["digits", "npz"],
    "+trainer.profiler=": ["simple", "null"],
    "search_space.stem=": ["[4,2]", "[8,2]"],
}


@pytest.mark.parametrize("key", SWEEPS)
def test_means_are_over_equal_settings_alone(key: str) -> None:
    asked = [f"{key}{value} seed={seed}" for value in SWEEPS[key] for seed in range(3)]
    figures = [0.1, 0.2, 0.4, 0.5, 0.6, 0.9]
    lines = printed(runs(*asked, test_acc=figures))
    column = lines[1].index("accuracy")
    means = [line[2] for line in lines if line[0] == "mean"]
    assert means == [f"{sum(part) / 3:.4f}" for part in (figures[:3], figures[3:])]
    halves = [line[-1] for line in lines if line[0] == "+-"]
    assert halves == [f"{stats.t.interval(0.95, 2, scale=stats.sem(p))[1]:.4f}" for p in (figures[:3], figures[3:])]
    values = [line[1] for line in lines[2:] if line[0].isdigit()]
    assert values == [value for value in SWEEPS[key] for _ in range(3)]  # each row says what was swept
    assert [line[column] for line in lines[2:] if line[0].isdigit()] == [f"{figure:.4f}" for figure in figures]


def test_a_grid_of_two_settings_has_no_mean_across_them() -> None:
    lines = printed(runs("a.lr=1 b.lr=1", "a.lr=1 b.lr=2", "a.lr=2 b.lr=1", "a.lr=2 b.lr=2", test_acc=[0.5] * 4))
    assert lines[1][:3] == ["run", "a.lr", "b.lr"]  # the last word is that of both
    assert not [line for line in lines if line[0] == "mean"]


def test_runs_that_differ_in_no_setting_but_their_names_are_apart() -> None:
    made = [(str(i), {**DIGITS, "strategy": name, "seed": 0, "test_acc": 0.5}) for i, name in enumerate("ab")]
    assert not [line for line in printed(made) if line[0] == "mean"]


@pytest.mark.parametrize("count", [1, 2])
def test_few_values_have_no_interval(count: int) -> None:
    assert half_interval([1e5, 1e6][:count]) is None
    lines = printed(runs("seed=0", "seed=1", params=[123_456, 1_107_316]))
    assert not [line for line in lines if line[0] == "+-"]
    assert FEWEST == 3


def test_both_files_hold_what_is_printed(tmp_path: Path) -> None:
    asked = [f"trainer.max_epochs={epochs} seed={seed}" for epochs in (1, 2) for seed in range(3)]
    steps = [{"weights": 10, "architecture": 5, "trials": None}] * 6
    made = runs(*asked, test_acc=[1 / 3] * 6, params=[7] * 6, warnings=[["<b>"]] * 6, steps=steps)
    write_sweep(tmp_path, made)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trainer.max_epochs"] for row in rows] == ["1", "1", "1", "2", "2", "2"]
    assert {float(row["test_acc"]) for row in rows} == {1 / 3}  # in full
    assert {row["steps.weights"] for row in rows} == {"10"}
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("<tr") == 1 + 6 + 2 * 2
    for text in ("max_epochs", "mean", "+- 95 %", "10+5", "0.3333", "Student"):
        assert text in page


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    write_sweep(tmp_path, [("<script>", {"strategy": "<script>", "seed": "<script>", "test_acc": "<script>"})])
    assert "<script>" not in (tmp_path / "sweep.html").read_text()
