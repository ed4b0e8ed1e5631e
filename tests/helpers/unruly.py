"""Children that misbehave as their trial's number says, and the job they belong to."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.data.base import SearchData
from lightning_nas.errors import DataError
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.training.seeding import generator
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Request, Response


class Unruly(Child):
    """Trains, unless its trial has another deed; leaves a mark for each attempt, with its process in it.

    Args:
        folder: of the marks, ``TRIAL-ATTEMPT``.
        deeds: by trial, as text.
        options: of Child.
    """

    def __init__(self, *, folder: str, deeds: dict[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.deeds = folder, deeds

    def work(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> Response:
        deed = self.deeds.get(str(request.trial), "")
        mark = Path(self.folder) / f"{request.trial}-{request.attempt}"
        mark.with_suffix(".tmp").write_text(str(os.getpid()))
        mark.with_suffix(".tmp").rename(mark)
        if deed == "is killed" or (deed == "is killed once" and request.attempt == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "leaves":
            os._exit(7)
        elif deed == "sleeps":
            time.sleep(600)
        elif deed == "waits":  # until there is a file that says go
            while not (Path(self.folder) / "go").exists():
                time.sleep(0.01)
        elif deed == "holds the lock":  # of the interpreter, for a good while: no other thread has a turn
            sum(range(3 * 10**9))
        return super().work(request, space, data, task)

    def curve(self, request: Request, *parts: Any) -> list[float]:
        deed = self.deeds.get(str(request.trial), "")
        if deed == "raises":
            raise RuntimeError("the shapes\ndo not fit")
        if deed == "is hungry":
            torch.zeros(2**33)
        if deed == "diverges":
            self.optimizer = partial(torch.optim.SGD, lr=1e30)
        return super().curve(request, *parts)


class Counted(ToyData):
    """Data that leave a mark, with the process in its name, whenever they are read.

    Args:
        folder: of the marks, ``read-PROCESS``.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def load(self) -> Any:
        (Path(self.folder) / f"read-{os.getpid()}").touch(exist_ok=False)
        return super().load()


class Missing(ToyData):
    """Data that is not on this machine."""

    def load(self) -> Any:
        raise DataError("no such folder")


def job(
    folder: Path, deeds: dict[int, str] | None = None, data: str = "lightning_nas.testing.toys.ToyData"
) -> ConfiguredJob:
    """Children on the toy space, some of them unruly."""
    folder.mkdir(exist_ok=True)
    unruly = {"folder": str(folder), "deeds": {str(trial): deed for trial, deed in (deeds or {}).items()}}
    optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    content = {
        "dataset": {"_target_": data},
        "search_space": {"_target_": "lightning_nas.testing.toys.ToySpace"},
        "task": {"_target_": "lightning_nas.tasks.classification.Classification"},
        "child": {"_target_": "unruly.Unruly", "epochs": 1, "optimizer": optimizer, **unruly},
        "seed": 0,
        "trusted_modules": ["lightning_nas.testing", "unruly"],
    }
    return ConfiguredJob(content)


def request(trial: int, attempt: int = 1) -> Request:
    """An architecture drawn by the trial's number."""
    return Request(trial, attempt, ToySpace().sample(generator(trial)), seed=trial)


def answers(engine: Engine, count: int, seconds: float = 300.0) -> dict[int, Response]:
    """The responses of an engine, by trial, waited for."""
    found, deadline = dict[int, Response](), time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, f"still waiting; came: {found}"
        for response in engine.finished(0.2):
            assert response.trial not in found
            found[response.trial] = response
    return found


def at_work(folder: Path, trial: int, attempt: int = 1, seconds: float = 300.0) -> int:
    """The process of an attempt, waited for."""
    mark, deadline = folder / f"{trial}-{attempt}", time.monotonic() + seconds
    while not mark.exists():
        assert time.monotonic() < deadline, f"{mark.name} does not begin"
        time.sleep(0.01)
    return int(mark.read_text())


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting for it."""
    deadline = time.monotonic() + 120.0  # a busy machine
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False
