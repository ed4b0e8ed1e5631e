"""The table at the end of a sweep, of any task and in any folders."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from lightning_nas.cli.sweep import SweepSummary, half_interval, summary


def result(seed: int, **figures: Any) -> dict[str, Any]:
    measured = {"params": 10, "macs": 20, "latency_measured_ms": 0.5, "kendall_tau": None, "search_seconds": 1.0}
    return {"strategy": "fbnet", "search_space": "small", "seed": seed, **measured, **figures}


def printed(runs: list[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(summary(runs))
    return [line.split() for line in captured.get().splitlines() if line.strip(" ─\u2501-")]


@pytest.mark.parametrize(
    ("figure", "header", "shown"),
    [("test_acc", "accuracy", "0.5000"), ("test_ppl", "perplexity", "0.50"), ("test_f1", "f1", "0.5")],
)
def test_the_first_figure_is_that_of_the_task(figure: str, header: str, shown: str) -> None:
    lines = printed([("0", result(0, **{figure: 0.4})), ("1", result(1, **{figure: 0.6}))])
    assert ["run", "seed", header, "params"] == lines[1][:4]
    [mean] = [line for line in lines if line[0] == "mean"]
    assert mean[:3] == ["mean", "n=2", shown]


def test_runs_of_two_tasks_share_a_table() -> None:
    lines = printed([("0", result(0, test_acc=0.4)), ("1", result(1, test_ppl=80.0))])
    assert lines[1][2:4] == ["accuracy", "perplexity"]
    assert lines[2][3:5] == ["0.4000", "-"]
    assert lines[3][2:4] == ["-", "80.00"]


def test_runs_are_found_in_folders_of_any_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("seed/0", "seed/10", "seed/9"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "result.json").write_text(json.dumps(result(int(name[5:]), test_acc=0.5)))
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    out = capsys.readouterr().out
    assert -1 < out.index("seed/0 ") < out.index("seed/9 ") < out.index("seed/10 ")


def test_a_sweep_without_a_result_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert capsys.readouterr().out == ""


def test_one_value_has_no_interval() -> None:
    assert half_interval([1.0]) is None
