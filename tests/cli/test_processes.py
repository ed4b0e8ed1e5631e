"""Two gloo processes: they end equal and together, whichever of them is told to stop or is lost."""

import os
import signal
import time

import pytest
from commands import TINY, Child, Commands, rows, session, when
from second_process import fork_the_second
from test_resume import assert_same, batches, position

from lightning_nas.errors import Interrupted
from lightning_nas.training.signals import StopRequest

DDP = (*TINY, "trainer=ddp", "trainer.accelerator=cpu", "dataset.batch_size=32", "resume.save_every=5")


def other(child: Child) -> int:
    """The process that the first one has, a fork of it."""
    told = child.out.parent / f"second-of-{child.pid}"
    child.when(lambda: told.exists() and told.read_text().endswith("\n"))
    return int(told.read_text())


def test_two_processes_end_as_one_and_go_on_from_any_stop(cli: Commands) -> None:
    undisturbed, folder = cli.folder / "undisturbed", cli.folder / "run"
    whole = cli.fork(*DDP, f"hydra.run.dir={undisturbed}")  # its second process is one that Lightning starts
    ended = whole.wait()
    assert ended.code == 0, ended.err
    assert not session(whole.pid)
    first, second, both = (0,), (1,), (0, 1)
    for step, (told, signum, code) in enumerate(
        [
            (first, signal.SIGTERM, 143),
            (second, signal.SIGTERM, 143),
            (both, signal.SIGINT, 130),
            (second, signal.SIGKILL, 4),
            (first, signal.SIGKILL, -signal.SIGKILL),
        ]
    ):
        child = cli.fork(*DDP, f"hydra.run.dir={folder}", "ckpt_path=last", before=fork_the_second)
        pids = child.pid, other(child)
        child.when(lambda step=step: rows(folder / "metrics.csv") > 4 + 9 * step)
        for number in told:
            os.kill(pids[number], signum)
        ended = child.wait()
        when(lambda child=child: not session(child.pid))
        assert ended.code == code, (told, signum, ended.err)
        assert "Traceback" not in ended.err
        assert len(ended.errors) == (code == 4)
        if code > 100:
            assert position(folder) == batches(folder)
    assert cli.run(*DDP, f"hydra.run.dir={folder}", "ckpt_path=last", before=fork_the_second).code == 0
    assert_same(folder, undisturbed)


def test_a_stop_while_one_process_works_and_the_other_waits(cli: Commands) -> None:
    """The truths of a rank check are trained by the first; the other is inside a barrier and cannot run handlers."""
    cli.environment["LIGHTNING_NAS_CACHE"] = str(cli.folder / "cache")
    folder, long = cli.folder / "run", "callbacks.rank_check.truth.epochs=1000"
    child = cli.fork(*DDP, long, f"hydra.run.dir={folder}", before=fork_the_second)
    pid = other(child)
    child.when(lambda: (folder / "train_ddp_process_1.log").exists())
    time.sleep(2)  # it has read the data, and now waits
    os.kill(pid, signal.SIGTERM)
    assert child.wait().code == 143
    when(lambda: not session(child.pid))


def test_a_sweep_over_runs_of_two_processes_is_refused(cli: Commands) -> None:
    ended = cli.run("-m", *DDP, f"hydra.sweep.dir={cli.folder}", "seed=1")
    ended.refused("trainer.devices=2", "torchrun")


@pytest.mark.parametrize("pause", [0.0, 1.2])
def test_a_second_signal_a_while_after_the_first_leaves_at_once(pause: float) -> None:
    """In a loop that defers, and never looks."""
    pid = os.fork()
    if pid == 0:
        StopRequest.listen()
        StopRequest.defer(deferred=True)
        code = 0
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except Interrupted as stop:
            code = int(stop.code or 0)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (143 if pause else 0)
