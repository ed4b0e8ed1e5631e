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
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from types import ModuleType

from lightning_nas.errors import ConfigError, shown
from lightning_nas.trials.engines.base import Job
from lightning_nas.trials.engines.server import serve
from lightning_nas.trials.requests import Request, Response, Status

_PRELOADED = "lightning_nas.trials.engines.preloaded"
_CONTEXT = multiprocessing.get_context("forkserver")
_KILLED = 5.0  # seconds to wait for the end of a process that was killed


@dataclass(frozen=True)
class Limits:
    """Resources of one child.

    Attributes:
        threads: intra-op threads of torch.
        minutes: wall-clock limit, after which the child is killed and failed; None for no limit.
        memory_gb: limit of the address space, above which the child is out of memory; None for no limit.
    """

    threads: int = 1
    minutes: float | None = None
    memory_gb: float | None = None


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
        own = {"threads": limits.threads, "memory_gb": limits.memory_gb, "folder": folder}
        _CONTEXT.set_forkserver_preload([_PRELOADED])
        self._process = _CONTEXT.Process(target=serve, args=(theirs, lifeline, job, json.dumps(own)))
        try:
            with contextlib.nullcontext() if _of_main(job) else _nameless_main():
                self._process.start()
        except (OSError, EOFError) as reason:  # no more processes, files or memory; then the fork server is gone too
            self.refused = _not_started(reason)
        finally:
            theirs.close()
            lifeline.close()
        atexit.register(self.kill)  # before the interpreter waits for processes

    @property
    def alive(self) -> bool:
        """Whether it can fork another child."""
        self._collect(0.0)
        return not (self._gone or self.refused)

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
            self._process.join()

    def _collect(self, timeout: float) -> None:
        """Read what the server has said of its children, waiting ``timeout`` seconds for the first message."""
        try:
            while not self._gone and self._channel.poll(timeout):
                number, code = json.loads(self._channel.recv_bytes())
                self._codes[number] = code
                timeout = 0.0
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
        limit = self._server.limits.minutes
        if self.answers.poll(timeout):
            try:
                response = Response.from_dict(json.loads(self.answers.recv_bytes()))
            except (EOFError, OSError):  # also of a broken-off answer
                response = self._response("lost", self._refused or self._how_it_died())
        elif limit is not None and time.monotonic() - self._since > 60 * limit:
            response = self._response("failed", f"took more than {limit:g} minutes")
        else:
            return None
        self.kill()  # the answer is complete; nothing that delays its exit matters
        return response

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


def _not_started(reason: BaseException) -> str:
    return f"its process could not be started: {type(reason).__name__}: {reason}"


def _in_words(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
