"""A multirun of two seeds: two folders, two offline W&B runs that can be read back, one table at the end."""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

import lightning_nas
from lightning_nas.sweep import half_interval

KEYS = {"train/loss", "arch/loss", "arch/entropy", "latency/expected_ms", "val/acc", "rank/kendall_tau"}
WANDB = shutil.which("wandb", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def run_sweep(folder: Path) -> str:
    package = str(Path(lightning_nas.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"LIGHTNING_NAS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment["PYTHONPATH"] = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
    # random truths of three architectures may all tie: five make a tau that is defined
    command = ["-m", "lightning_nas.run", "-m", "seed=1,2", "debug=fast", f"hydra.sweep.dir={folder / 'sweep'}"]
    command += ["trainer.log_every_n_steps=1", "strategy.arch_warmup_epochs=0", "callbacks.rank_check.architectures=5"]
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_back(folder: Path) -> list[dict[str, Any]]:
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert WANDB is not None
    out = subprocess.run([WANDB, "leet", "inspect", "--json", str(offline)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def logged(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, Any]]]:
    """(batch, value) of each key."""
    values: dict[str, list[tuple[int, Any]]] = {}
    for record in records:
        if record["type"] == "history":
            items = record["history"]["item"]
            for key, value in items.items():
                values.setdefault(key, []).append((items["trainer/global_step"], value))
    return values


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("sweep")
    return folder / "sweep", run_sweep(folder)


def test_a_multirun_ends_with_one_table_over_its_runs(sweep: tuple[Path, str]) -> None:
    folder, printed = sweep
    results = [json.loads((folder / job / "result.json").read_text()) for job in ("0", "1")]
    assert [result["seed"] for result in results] == [1, 2]
    assert "fbnet on fbnet_small" in printed
    (mean,) = [line for line in printed.splitlines() if line.split()[:1] == ["mean"]]
    assert f"{statistics.fmean(result['test_acc'] for result in results):.4f}" in mean


def test_each_run_is_its_own_offline_wandb_run_with_the_values_of_its_csv_file(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    names = [next((folder / job / "wandb").glob("offline-run-*")).name for job in ("0", "1")]
    assert len({name.rpartition("-")[2] for name in names}) == 2
    for job in ("0", "1"):
        values = logged(read_back(folder / job))
        assert set(values) >= KEYS - {"rank/kendall_tau"}
        with (folder / job / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for key in KEYS & set(values):
            expected = [(int(row["step"]), float(row[key])) for row in rows if row.get(key)]
            assert [step for step, _ in values[key]] == [step for step, _ in expected], key
            assert [value for _, value in values[key]] == pytest.approx([value for _, value in expected]), key
        media = {key: values[f"{key}._type"][-1][1] for key in ("architectures", "arch/probabilities", "rank/scatter")}
        assert "table" in media.pop("architectures")
        assert set(media.values()) == {"images/separated"}


def test_the_interval_is_students() -> None:
    values = [0.91, 0.95, 0.99]
    low, high = stats.t.interval(0.95, 2, statistics.fmean(values), stats.sem(values))
    assert half_interval(values) == pytest.approx((high - low) / 2)
