"""The same command with ``ckpt_path=last`` ends with what a run that was never stopped ends with, to the bit."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, Commands, Ended, rows

from lightning_nas.training.checkpoint import load_checked

TABLES = ("metrics.csv", "architectures.csv", "probabilities.csv", "rank.csv", "rank_points.csv", "layers.csv")


def result(folder: Path) -> dict[str, Any]:
    """Of a run, without what a clock says and how it was asked for."""
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    clocks = (
        "search_seconds",
        "retrain_seconds",
        "latency_measured_ms",
        "latency_iqr_ms",
        "latency_steady",
        "overrides",
    )
    return {name: value for name, value in content.items() if name not in clocks}


def assert_same(folder: Path, undisturbed: Path) -> None:
    for name in (*TABLES, "architecture.json", "retrain/metrics.csv"):
        assert (folder / name).read_text() == (undisturbed / name).read_text(), name
    assert result(folder) == result(undisturbed)


def position(folder: Path) -> int:
    return int(load_checked(folder / "checkpoints" / "last.ckpt")["lightning_nas"]["position"])


def batches(folder: Path) -> int:
    """How many training batches a metrics file tells of."""
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    columns = [header.split(",").index(name) for name in ("train/loss", "arch/loss") if name in header.split(",")]
    return sum(any(line.split(",")[column] for column in columns) for line in lines)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_search_goes_on(cli: Commands, undisturbed: tuple[Path, Ended], signum: int, code: int) -> None:
    folder = cli.folder / "run"
    arguments = [*TINY, f"hydra.run.dir={folder}"]
    # one of the two by real processes from beginning to end
    start = cli.process if signum == signal.SIGTERM else cli.fork
    first = start(*arguments)
    first.when(lambda: rows(folder / "metrics.csv") > 5)
    if start == cli.fork:
        cli.run(*arguments).refused("in use by process", str(first.pid))
    first.when(lambda: rows(folder / "metrics.csv") > 20)
    first.kill(signum)
    ended = first.wait()
    assert (ended.code, ended.errors) == (code, []), ended.err
    assert "Traceback" not in ended.err
    assert position(folder) == batches(folder)
    assert not (folder / "result.json").exists()
    again = start(*arguments, "ckpt_path=last").wait()
    assert again.code == 0, again.err
    assert_same(folder, undisturbed[0])


def test_stopped_in_each_place_a_run_has_it_goes_on(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "run"
    arguments = [*TINY, f"hydra.run.dir={folder}", "ckpt_path=last"]  # from the first start on: a job that is requeued
    cli.environment["LIGHTNING_NAS_CACHE"] = str(cli.folder / "cache")  # so that truths have to be trained
    places = {
        "before anything": lambda: (folder / "config.yaml").exists(),
        "while truths are trained": lambda: list(cli.folder.glob("cache/truth/*/*.json")),
        "in the first epoch": lambda: rows(folder / "metrics.csv") > 3,
        "at the first epoch's end": lambda: rows(folder / "rank.csv") > 0,
        "in the last epoch": lambda: rows(folder / "metrics.csv") > 50,
        "in retraining": lambda: rows(folder / "retrain" / "metrics.csv") > 5,
    }
    for place, reached in places.items():
        child = cli.fork(*arguments)
        child.when(reached)
        child.kill(signal.SIGTERM)
        assert child.wait().code == 143, place
    assert cli.run(*arguments).code == 0
    assert_same(folder, undisturbed[0])


def test_a_killed_run_goes_on(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "run"
    arguments = [*TINY, "resume.save_every=5", f"hydra.run.dir={folder}", "ckpt_path=last"]
    for table, at in (("metrics.csv", 12), ("metrics.csv", 33), ("retrain/metrics.csv", 7)):
        child = cli.fork(*arguments)
        child.when(lambda table=table, at=at: rows(folder / table) > at)
        child.kill(signal.SIGKILL)
        assert child.wait().code == -signal.SIGKILL
    assert cli.run(*arguments).code == 0
    assert_same(folder, undisturbed[0])


def test_two_signals_at_once_are_one_request(cli: Commands) -> None:
    folder = cli.folder / "run"
    slow = ["dataset.batch_size=128", "trainer.max_epochs=100", "callbacks.rank_check=null"]
    child = cli.fork(*TINY, *slow, f"hydra.run.dir={folder}")
    child.when(lambda: rows(folder / "metrics.csv") > 3)
    child.kill(signal.SIGINT)
    child.kill(signal.SIGTERM)
    assert child.wait().code in (130, 143)  # another thread may be handed the first one, and be late
    assert position(folder) == batches(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("seed=1", "seed was 0, is 1"),
        ("strategy.weights_optimizer.lr=0.2", "strategy.weights_optimizer.lr was 0.1, is 0.2"),
        ("trainer.limit_train_batches=3", "trainer.limit_train_batches was null, is 3"),
        ("latency_table=params", "latency_table._target_"),
    ],
)
def test_resuming_under_other_conditions_is_refused(
    cli: Commands, undisturbed: tuple[Path, Ended], change: str, named: str
) -> None:
    folder = undisturbed[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.csv")}
    ended = cli.run(*TINY, change, f"hydra.run.dir={folder}", "ckpt_path=last")
    ended.refused(named, "resume.allow_inexact=true")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.csv")} == before
