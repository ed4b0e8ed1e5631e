"""Processes of children, as the search sees them: a child that dies takes nothing with it.

A job server (:mod:`~lightning_nas.trials.engines.server`) sets up the job once, data included, and forks one process
per child. The server itself comes from a fork server that has imported torch and Lightning. All of them end when the
search does, however it ends: each holds the read end of a pipe whose write end is in the search.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from threading import Timer
from types import ModuleType

from lightning_nas.errors import ConfigError, shown
from lightning_nas.trials.engines.base import Job
from lightning_nas.trials.engines.server import serve
from lightning_nas.trials.requests import Request, Response, Status

_PRELOADED = "lightning_nas.trials.engines.preloaded"
_CONTEXT = multiprocessing.get_context("forkserver")
_KILLED = 5.0  # seconds to wait for the end of a process that was killed
_STARTED = 120.0  # seconds in which processes start, at least; they import torch
_BEATS = 10  # signs of life in the time after which a silent process is lost
_LOOK = 2.0  # seconds that count at most between two looks: a search that was stopped itself blames nobody


@dataclass(frozen=True)
class Limits:
    """Resources of one child.

    Attributes:
        threads: intra-op threads of torch.
        minutes: wall-clock limit, after which the child is killed and failed; None for no limit.
        memory_gb: limit of the address space, above which the child is out of memory; None for no limit.
        silent_seconds: time without a sign of life, as of a stopped process, after which the child is killed and lost.
    """

    threads: int = 1
    minutes: float | None = None
    memory_gb: float | None = None
    silent_seconds: float = 120.0


class _Silence:
    """Seconds since the last sign of life of a process, as far as somebody listened."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.heard()

    def heard(self) -> None:
        self._seconds, self._looked = 0.0, time.monotonic()

    @property
    def too_long(self) -> bool:
        now = time.monotonic()
        self._seconds += min(now - self._looked, _LOOK, self.limit / _BEATS)
        self._looked = now
        return self._seconds > self.limit


class JobServer:
    """A process that sets up a job and forks the processes of its children.

    Args:
        job: as :func:`pickled` returns it.
        limits: resources of each child.
        folder: working directory of the children, if the machine has it.
    """

    def __init__(self, job: bytes, limits: Limits, folder: str) -> None:
        self.limits, self.refused = limits, ""
        self._numbers, self._gone = itertools.count(), False
        self._codes: dict[int, int | None] = {}  # of children that were started; None while they run
        self._channel, theirs = _CONTEXT.Pipe()
        lifeline, self._lifeline = _CONTEXT.Pipe(duplex=False)
        beat = limits.silent_seconds / _BEATS
        own = {"threads": limits.threads, "memory_gb": limits.memory_gb, "beat": beat, "folder": folder}
        _CONTEXT.set_forkserver_preload([_PRELOADED])
        self._process = _CONTEXT.Process(target=serve, args=(theirs, lifeline, job, json.dumps(own)))
        patience = max(limits.silent_seconds, _STARTED)
        self._silence = _Silence(patience)  # until the first sign of life
        timer = Timer(patience, _kill_fork_server)  # one that was stopped never answers
        timer.daemon = True
        timer.start()
        try:
            with contextlib.nullcontext() if _of_main(job) else _nameless_main():
                self._process.start()
        except (OSError, EOFError) as reason:  # no more processes, files or memory; then the fork server is gone too
            self.refused = _not_started(reason)
        finally:
            timer.cancel()
            theirs.close()
            lifeline.close()
        atexit.register(self.kill)  # before the interpreter waits for processes

    @property
    def alive(self) -> bool:
        """Whether it can fork another child."""
        return not (self.is_silent or self._gone or self.refused)

    @property
    def is_silent(self) -> bool:
        """Whether it has given no sign of life for too long."""
        self._collect(0.0)
        return not self._gone and self._silence.too_long

    def has_started(self, number: int) -> bool:
        """Whether a child has been forked."""
        return number in self._codes

    def fork(self, request: Request, devices: str, answering: Connection, lifeline: Connection) -> int:
        """Have a child started, and return its number.

        Raises:
            OSError: the server is gone.
        """
        number = next(self._numbers)
        asked = {"request": request.to_dict(), "devices": devices}
        self._channel.send_bytes(json.dumps({"number": number, "start": asked}).encode())
        for end in (answering, lifeline):
            send_handle(self._channel, end.fileno(), self._process.pid)
        return number

    def kill_child(self, number: int) -> None:
        """Kill a child, which may have ended, and wait until it is gone.

        A child that waits for the server to set up the data ends as soon as it is started: its lifeline is closed.
        """
        with contextlib.suppress(OSError):
            self._channel.send_bytes(json.dumps({"number": number, "start": None}).encode())
        self._collect(0.0)
        if number in self._codes:
            self.exit_code(number, _KILLED)

    def exit_code(self, number: int, timeout: float) -> int | None:
        """The exit code of a child, negative for a signal; None if nobody knows it after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self._codes.get(number) is None and not self._gone and (left := deadline - time.monotonic()) > 0:
            self._collect(left)
        return self._codes.get(number)

    def how_it_ended(self) -> str:
        """The end of the server itself, in words."""
        self._process.join(_KILLED)
        return _in_words(self._process.exitcode)

    def kill(self) -> None:
        """End the server; children that still run end when their own lifelines are closed."""
        atexit.unregister(self.kill)
        self._gone = True
        self._channel.close()
        self._lifeline.close()
        if not self.refused:
            self._process.kill()
            self._process.join(_KILLED)
            if self._process.is_alive():  # the fork server, which would say that it ended, is stopped
                _kill_fork_server()
                self._process.join()

    def _collect(self, timeout: float) -> None:
        """Read what the server has said of its children, waiting ``timeout`` seconds for the first of it."""
        deadline = time.monotonic() + timeout  # signs of life come in meanwhile
        try:
            while not self._gone and self._channel.poll(max(0.0, deadline - time.monotonic())):
                number, code = json.loads(self._channel.recv_bytes())
                self._silence.limit = self.limits.silent_seconds
                self._silence.heard()
                if number is not None:
                    self._codes[number] = code
                    deadline = 0.0
        except (EOFError, OSError):
            self._gone = True


class ChildProcess:
    """The process of one attempt at a trial.

    Args:
        server: forks it.
        request: what to train.
        devices: the GPUs it sees, as CUDA_VISIBLE_DEVICES names them.

    Attributes:
        request: as given.
        answers: a connection that can be read once the child has ended.
    """

    def __init__(self, server: JobServer, request: Request, devices: str) -> None:
        self.request, self._server, self._refused = request, server, server.refused
        self._since, self._number = time.monotonic(), -1
        self._silence = _Silence(server.limits.silent_seconds)
        self.answers, answering = _CONTEXT.Pipe(duplex=False)
        lifeline, self._lifeline = _CONTEXT.Pipe(duplex=False)
        try:
            if not self._refused:
                self._number = server.fork(request, devices, answering, lifeline)
        except OSError as reason:
            self._refused = _not_started(reason)
        finally:
            answering.close()
            lifeline.close()

    def ended(self, timeout: float = 0.0) -> Response | None:
        """The response, waiting ``timeout`` seconds for it; None if the child still runs. Returns a response once."""
        response = self._heard(timeout)
        limits = self._server.limits
        if response is None and limits.minutes is not None and time.monotonic() - self._since > 60 * limits.minutes:
            response = self._response("failed", f"took more than {limits.minutes:g} minutes")
        if response is None and self._is_silent():
            response = self._response("lost", f"no sign of life for {limits.silent_seconds:g} seconds")
        if response is None:
            return None
        self.kill()  # the answer is complete; nothing that delays its exit matters
        return response

    def _heard(self, timeout: float) -> Response | None:
        """The response, if it comes in ``timeout`` seconds; signs of life are noted."""
        deadline = time.monotonic() + timeout
        while self.answers.poll(max(0.0, deadline - time.monotonic())):
            try:
                message = self.answers.recv_bytes()
            except (EOFError, OSError):  # also of a broken-off answer
                return self._response("lost", self._refused or self._how_it_died())
            if message:
                return Response.from_dict(json.loads(message))
            self._silence.heard()
        return None

    def _is_silent(self) -> bool:
        silent = self._server.is_silent
        if self._server.has_started(self._number):
            return self._silence.too_long
        self._silence.heard()
        return silent  # it waits for the server to set up the data

    def kill(self) -> None:
        """End the process, which may have ended."""
        if self._lifeline.closed:
            return
        self._lifeline.close()
        self.answers.close()
        if not self._refused:
            self._server.kill_child(self._number)

    def _response(self, status: Status, reason: str) -> Response:
        seconds = time.monotonic() - self._since
        return Response(self.request.trial, self.request.attempt, status, (), seconds, reason)

    def _how_it_died(self) -> str:
        code = self._server.exit_code(self._number, _KILLED)
        if code is None and not self._server.alive:
            return f"the process that sets up its data {self._server.how_it_ended()}"
        return f"its process {_in_words(code)}"


def pickled(job: Job) -> bytes:
    """Pickle a job for other processes.

    Raises:
        ConfigError: an object of it cannot be pickled, or its class is defined in a notebook or an interactive session,
            from which no other process can import it.
    """
    try:
        content = pickle.dumps(job)
    except (pickle.PicklingError, TypeError, AttributeError, NotImplementedError, RuntimeError) as reason:
        raise ConfigError(
            f"engine: the job of this search cannot be sent to another process: {shown(str(reason), 200)}; give data, "
            "space, task and child that can be pickled, or use the serial engine"
        ) from None
    if _of_main(content) and getattr(sys.modules["__main__"], "__file__", None) is None:
        raise ConfigError(
            "engine: the job of this search uses a class or function that is defined in a notebook or an interactive "
            "session; move it into a module that other processes can import, or use the serial engine"
        )
    return content


def _of_main(job: bytes) -> bool:
    """Whether a pickled job refers to the script that was started."""
    return b"__main__" in job


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep processes that are started inside from importing the script that started them: they do not need it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _kill_fork_server() -> None:
    """Kill the process that all others are forked from; the next start makes a new one."""
    if (pid := getattr(forkserver._forkserver, "_forkserver_pid", None)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _not_started(reason: BaseException) -> str:
    return f"its process could not be started: {type(reason).__name__}: {reason}"


def _in_words(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
