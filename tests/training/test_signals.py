"""Which process decides about a stop."""

import subprocess
import sys

import pytest

from lightning_nas.experiment.process import signals
from lightning_nas.training.signals import StopRequest


def test_a_rank_that_another_launcher_started_does_not_follow_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun and srun set LOCAL_RANK; a run listens twice, for its command and for its work."""
    monkeypatch.setenv("LIGHTNING_NAS_LEADER", "restored at the end")
    monkeypatch.delenv("LIGHTNING_NAS_LEADER")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with signals(), signals():
        assert not StopRequest.follows


def test_a_run_that_begins_soon_after_a_stop_goes_on() -> None:
    """In a notebook the next run may begin within the seconds after which an unheard signal ends the process."""
    code = """
import os, signal, time
from lightning_nas.experiment.process import signals
for _ in range(2):
    try:
        with signals():
            if not _:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(4)
    except SystemExit as left:
        print(left.code, flush=True)
print("went on")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["143", "went", "on"]


def test_a_stop_that_python_drops_in_a_destructor_comes_again() -> None:
    code = """
import os, signal, time
from lightning_nas.experiment.process import signals
class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
try:
    with signals():
        Interrupted()
        print("dropped", flush=True)
        for _ in range(1000):
            time.sleep(0.01)
        print("went on")
except SystemExit as left:
    print(left.code)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout.split(), ended.stderr) == (["dropped", "143"], "")
