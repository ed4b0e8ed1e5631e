"""Running the command line: as a process of its own, or in a fork of this one, which has torch imported already."""

from __future__ import annotations

import importlib.util
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hydra
import sklearn.datasets  # noqa: F401 - forks find it imported
import torch
from hydra.core.global_hydra import GlobalHydra

import lightning_nas.experiment.result
import lightning_nas.experiment.retrain
import lightning_nas.experiment.search  # noqa: F401
from lightning_nas.cli.command import conf_dir, run_command
from lightning_nas.cli.config.check import check
from lightning_nas.run import main

ROOT = Path(__file__).parents[2]
MODULE = "lightning_nas.run"
PATIENCE = 600.0  # seconds until a wait is given up: of a busy machine's, and of what hangs there are far more
# everything a run does, on two small layers: a second or two; an epoch is 15 weights batches, then 3 arch batches
TINY = (
    *("search_space.stem=[4,2]", "search_space.stages=[[4,1,1],[8,1,2]]", "search_space.head=8"),
    *("strategy.candidates=2", "strategy.score_batches=1", "strategy.arch_warmup_epochs=0"),
    *("latency_table=macs", "callbacks.rank_check.architectures=3", "callbacks.rank_check.every_n_epochs=1"),
    *("callbacks.rank_check.truth.epochs=1", "callbacks.architecture_logger.samples=1"),
    *("trainer.max_epochs=3", "trainer.log_every_n_steps=1", "retrain.epochs=2", "logger=none"),
)


with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
    check(hydra.compose("config", ["paths.output=''"]))  # what it reads of other packages, forks find read already


@dataclass(frozen=True)
class Ended:
    """What was left of a command."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that begin with ``error:``."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    def refused(self, *words: str, code: int = 2) -> str:
        """The one line the command ended with, after checking that it is one, and that it holds the words."""
        assert self.code == code, self.err[-2000:]
        assert "Traceback" not in self.err
        assert len(self.errors) == 1, self.err[-2000:]
        [line] = self.errors
        assert line.isprintable()
        assert len(line) <= 820
        for word in words:
            assert word in line
        return line


@dataclass
class Child:
    """A command at work."""

    pid: int
    out: Path
    wait_code: Callable[[], int]
    began: float

    def wait(self) -> Ended:
        code = self.wait_code()
        return Ended(code, *self.written(), time.monotonic() - self.began)

    def written(self) -> list[str]:
        """What it has written to stdout and to stderr."""
        return [self.out.with_suffix(suffix).read_text(errors="replace") for suffix in (".out", ".err")]

    def when(self, condition: Callable[[], object]) -> None:
        """Wait until something comes true of the command at work; fail with what it wrote if it ends before."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if (ended or time.monotonic() > deadline) and not condition():
                raise AssertionError(
                    f"it {'ended' if ended else 'still runs'} before that; it wrote:\n{self.written()}"
                )
            time.sleep(0.005)

    def kill(self, signum: int) -> None:
        os.kill(self.pid, signum)


class Commands:
    """Starts commands with an environment of their own; ends what is left of them."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.count = folder, 0
        self.environment = {"LIGHTNING_NAS_CACHE": str(cache), "OMP_NUM_THREADS": "1", "WANDB_API_KEY": ""}
        self.children: list[int] = []

    def process(
        self, *arguments: str, module: str = MODULE, cwd: Path | None = None, path: Path = ROOT, **environment: str
    ) -> Child:
        """``python -m lightning_nas.run ARGUMENTS`` in a session of its own, its stdin closed."""
        out = self._out()
        env = {**os.environ, **self.environment, "PYTHONPATH": str(path), **environment}
        with out.with_suffix(".out").open("w") as stdout, out.with_suffix(".err").open("w") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd or self.folder,
                env=env,
                start_new_session=True,
            )
        self.children.append(child.pid)
        return Child(child.pid, out, lambda: child.wait(PATIENCE), time.monotonic())

    def fork(self, *arguments: str, before: Callable[[], None] | None = None) -> Child:
        """The same in a fork."""
        out, began = self._out(), time.monotonic()
        torch.set_num_threads(1)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            _become(out, {**self.environment, "PYTHONPATH": str(ROOT)}, self.folder)
            if before:
                before()
            os._exit(code_of(arguments))
        self.children.append(pid)
        return Child(pid, out, lambda: _wait(pid), began)

    def run(self, *arguments: str, before: Callable[[], None] | None = None) -> Ended:
        """A fork, waited for."""
        return self.fork(*arguments, before=before).wait()

    def clean(self) -> None:
        """Kill what is left of each session."""
        for leader in self.children:
            for pid in session(leader):
                os.kill(pid, signal.SIGKILL)

    def _out(self) -> Path:
        self.count += 1
        return self.folder / f"command-{self.count}"


def _become(out: Path, environment: dict[str, str], cwd: Path) -> None:
    """Streams, environment and signals of a fresh process."""
    for number, suffix in ((1, ".out"), (2, ".err")):
        target = os.open(out.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, number)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.update(environment)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    GlobalHydra.instance().clear()
    forget_the_fork_server()
    __import__("__main__").__spec__ = importlib.util.find_spec(MODULE)  # for the processes that Lightning launches


def forget_the_fork_server() -> None:
    """In a fork of the process of the tests: its fork server is not a child of this one, which has to begin its own."""
    multiprocessing.forkserver._forkserver.__init__()


def code_of(arguments: Sequence[str]) -> int:
    sys.argv = ["run.py", *arguments]
    try:
        run_command(main, "config")
    except SystemExit as leaving:
        code = 0 if leaving.code is None else int(leaving.code)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _wait(pid: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    raise TimeoutError(f"still running after {PATIENCE} s")


def session(leader: int) -> list[int]:
    """The processes alive in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(of) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def rows(file: Path) -> int:
    """Rows of a CSV file that may not be there yet."""
    try:
        return max(file.read_text().count("\n") - 1, 0)
    except FileNotFoundError:
        return 0


def when(condition: Callable[[], object]) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)
