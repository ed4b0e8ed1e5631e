"""Several runs in one process: as if each had been alone, with one table at the end."""

import csv
import json
import math
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import TINY, Commands, Ended
from hydra._internal.core_plugins import basic_launcher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from test_resume import assert_same, result

from lightning_nas import processes
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.process import process


def test_a_sweep_gives_folders_wandb_runs_and_a_table(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "sweep"
    ended = cli.run("-m", *TINY, "logger=wandb", "seed=1,0", f"hydra.sweep.dir={folder}")
    assert ended.code == 0, ended.err
    # what the first job did to the process did not reach the second
    assert_same(folder / "1", undisturbed[0])

    runs = [run.name.rpartition("-")[2] for number in "01" for run in folder.glob(f"{number}/wandb/offline-run-*")]
    assert len(set(runs)) == 2

    results: list[dict[str, Any]] = [json.loads((folder / n / "result.json").read_text()) for n in "01"]
    assert [content["seed"] for content in results] == [1, 0]
    accuracies = [content["test_acc"] for content in results]
    table = ended.out[ended.out.rindex("on fbnet_small") :]
    for start, number in (("0", accuracies[0]), ("1", accuracies[1]), ("mean", sum(accuracies) / 2)):
        assert re.search(rf"\s{start} .*\b{number:.4f}\b", table), (start, number, table)
    with (folder / "sweep.csv").open(newline="") as file:
        assert [float(row["test_acc"]) for row in csv.DictReader(file)] == accuracies
    assert (folder / "sweep.html").is_file()


def test_a_job_that_fails_lets_the_others_run(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    """A sweeper gets the score of each job, with which it may optimise, and NaN of one that failed."""
    told = cli.folder / "told.json"

    class Optimiser(BasicSweeper):
        def sweep(self, arguments: list[str]) -> Any:
            returned = super().sweep(arguments)
            told.write_text(json.dumps([job.return_value for batch in returned for job in batch]))
            return returned

    def plugin() -> None:
        Optimiser.__module__, Optimiser.__qualname__ = "hydra_plugins.toy", "Optimiser"
        made = ModuleType("hydra_plugins.toy")
        made.Optimiser = Optimiser  # type: ignore[attr-defined]
        sys.modules |= {"hydra_plugins": ModuleType("hydra_plugins"), "hydra_plugins.toy": made}
        Plugins.instance().register(Optimiser)

    folder = cli.folder / "sweep"
    settings = [
        "strategy.weights_optimizer.weight_decay=1e12,1e-4",
        "hydra.sweeper._target_=hydra_plugins.toy.Optimiser",
    ]
    ended = cli.run("-m", *TINY, *settings, f"hydra.sweep.dir={folder}", before=plugin)
    ended.refused("at batch", code=3)
    assert_same(folder / "1", undisturbed[0])
    assert not (folder / "0" / "result.json").exists()
    score = result(folder / "1")["test_acc"]
    assert f"{score:.4f}" in ended.out[ended.out.rindex("on fbnet_small") :]
    assert str(json.loads(told.read_text())) == str([math.nan, score])


def test_jobs_that_fail_in_other_processes_are_an_exit_code_too(cli: Commands) -> None:
    """As under hydra/launcher=joblib, which runs jobs in processes of its own."""

    def elsewhere() -> None:
        run_job = basic_launcher.run_job

        def forked(*args: Any, **options: Any) -> JobReturn:
            pid = os.fork()
            if pid == 0:
                run_job(*args, **options)
                sys.stderr.flush()
                os._exit(0)
            os.waitpid(pid, 0)
            return JobReturn(status=JobStatus.COMPLETED)

        basic_launcher.run_job = forked  # type: ignore[attr-defined]

    folder = f"hydra.sweep.dir={cli.folder}/sweep"
    ended = cli.run("-m", *TINY, "+trainer.profiler=simple,nothing", "stages=[ranking]", folder, before=elsewhere)
    assert ended.code == 2, ended.err
    assert len(ended.errors) == 2


@pytest.mark.parametrize("way", ["++hydra.mode=MULTIRUN", "file"])
def test_a_job_that_fails_is_an_exit_code_however_the_sweep_is_asked_for(cli: Commands, way: str) -> None:
    failing = ("+trainer.profiler=simple,nothing", "stages=[ranking]", f"hydra.sweep.dir={cli.folder}/sweep")
    if way == "file":
        (cli.folder / "experiment").mkdir()
        text = (
            "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {+trainer.profiler: 'simple,nothing'}}}\n"
        )
        (cli.folder / "experiment" / "swept.yaml").write_text(text)
        arguments = (f"--config-dir={cli.folder}", "experiment=swept", *failing[1:])
    else:
        arguments = (way, *failing)
    ended = cli.run(*TINY, *arguments)
    assert ended.code == 2, ended.err
    assert len(ended.errors) == 2


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


def test_many_times_more_threads_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 2)
    with pytest.raises(ConfigError, match="threads=33: this machine has 2 cores; legal: at most 32"), process(33):
        pass
