"""Several runs in one process: as if each had been alone, with one table at the end."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY, Commands, Ended
from scipy import stats
from test_resume import assert_same, result

from lightning_nas.experiment.process import process


def test_a_sweep_gives_folders_wandb_runs_and_a_table(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "sweep"
    ended = cli.run("-m", *TINY, "logger=wandb", "seed=1,0", f"hydra.sweep.dir={folder}", seconds=200)
    assert ended.code == 0, ended.err
    # what the first job did to the process did not reach the second
    assert_same(folder / "1", undisturbed[0])

    runs = [run.name.rpartition("-")[2] for number in "01" for run in folder.glob(f"{number}/wandb/offline-run-*")]
    assert len(set(runs)) == 2

    results: list[dict[str, Any]] = [json.loads((folder / n / "result.json").read_text()) for n in "01"]
    assert [content["seed"] for content in results] == [1, 0]
    accuracies = [content["test_acc"] for content in results]
    half = stats.t.interval(0.95, 1, scale=stats.sem(accuracies))[1]
    table = ended.out[ended.out.rindex("on fbnet_small") :]
    for start, number in (("0", accuracies[0]), ("1", accuracies[1]), ("mean", sum(accuracies) / 2), ("+- 95 %", half)):
        assert re.search(rf"\s{re.escape(start)} .*\b{number:.4f}\b", table), (start, number, table)


def test_a_job_that_fails_lets_the_others_run(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "sweep"
    ended = cli.run("-m", *TINY, "strategy.weights_optimizer.lr=1e30,0.1", f"hydra.sweep.dir={folder}")
    ended.refused("at batch", code=3)
    assert_same(folder / "1", undisturbed[0])
    assert not (folder / "0" / "result.json").exists()
    assert f"{result(folder / '1')['test_acc']:.4f}" in ended.out[ended.out.rindex("on fbnet_small") :]


def test_a_run_puts_back_what_it_changed_in_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for signum in (signal.SIGINT, signal.SIGTERM):  # whatever other tests left
        signal.signal(signum, signal.default_int_handler)

    def state() -> list[Any]:
        handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        return [dict(os.environ), threads, deterministic, handlers, wakeup]

    before = state()
    with process(threads=before[1] + 1):
        torch.use_deterministic_algorithms(True)
        os.environ["WANDB_MODE"] = "dryrun"
        assert torch.get_num_threads() == before[1] + 1
        assert os.environ["OMP_NUM_THREADS"] == str(before[1] + 1)
        assert signal.getsignal(signal.SIGTERM) != before[3][1]
    assert state() == before
