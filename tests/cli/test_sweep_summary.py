"""The end of a multirun: the runs of this sweep are found, written and printed."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_nas.cli.sweep import SweepSummary
from lightning_nas.errors import InputError


def leave(folder: Path, seed: int, **figures: Any) -> None:
    """What a run leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {"strategy": "fbnet", "search_space": "small", "dataset": "digits", "seed": seed, **figures}
    (folder / "result.json").write_text(json.dumps(result))


def config(folder: Path) -> Any:
    return OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})


def end(folder: Path, capsys: pytest.CaptureFixture[str], summary: SweepSummary | None = None) -> str:
    (summary or SweepSummary()).on_multirun_end(config(folder))
    return capsys.readouterr().out


def test_runs_are_found_in_folders_of_any_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("seed/0", "seed/10", "seed/9"):
        leave(tmp_path / name, int(name[5:]), test_acc=0.5)
    out = end(tmp_path, capsys)
    assert -1 < out.index("seed/0 ") < out.index("seed/9 ") < out.index("seed/10 ")


def test_a_sweep_without_a_result_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(tmp_path, capsys) == ""
    assert not list(tmp_path.iterdir())


def test_runs_of_an_earlier_sweep_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for job in range(3):
        leave(tmp_path / str(job), job, test_acc=0.5)
    summary = SweepSummary()
    summary.on_multirun_start(config(tmp_path))
    assert end(tmp_path, capsys, summary) == ""
    leave(tmp_path / "1", 1, test_acc=0.5)  # run again, with the same figures
    leave(tmp_path / "3", 3, test_acc=0.25)
    assert "0.5000" in end(tmp_path, capsys, summary)
    with (tmp_path / "sweep.csv").open(newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["1", "3"]


def test_no_text_is_cut_on_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for value in ("short", "a_long_name_of_a_data_set_of_my_own"):
        figures = {"test_acc": 0.5, "params": 123456, "macs": 1234567, "overrides": [f"dataset={value}"]}
        leave(tmp_path / f"dataset={value}", 0, **figures)
    out = end(tmp_path, capsys)
    assert "…" not in out
    for text in ("dataset=a_long_name_of_a_data_set_of_my_own", "1,234,567", "accuracy", f"{tmp_path}/sweep.csv"):
        assert text in out


def test_a_damaged_result_is_one_error(tmp_path: Path) -> None:
    leave(tmp_path / "0", 0)
    (tmp_path / "0" / "result.json").write_text("[1]")
    with pytest.raises(InputError, match="must hold an object"):
        SweepSummary().on_multirun_end(config(tmp_path))
