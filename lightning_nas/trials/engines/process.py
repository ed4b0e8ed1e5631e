"""One attempt at a trial in an operating-system process of its own: a child that dies takes nothing with it.

Processes come from a fork server that has imported torch and Lightning already, so that one begins in some tens of
milliseconds. Each ends when the process that began it does, however that ends: it holds on to a pipe of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from threading import Thread
from types import ModuleType
from typing import Any

from lightning_nas.errors import ConfigError, shown
from lightning_nas.trials.engines.base import Job
from lightning_nas.trials.requests import Request, Response, Status

_SERVED = "lightning_nas.trials.engines.served"
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Limits:
    """What a child may have.

    Attributes:
        threads: of torch.
        minutes: it may take; then it is killed, and failed. None for no end.
        memory_gb: of address space; a child that wants more is out of memory. None for no limit.
    """

    threads: int = 1
    minutes: float | None = None
    memory_gb: float | None = None


class ChildProcess:
    """A child at work.

    Args:
        job: what the children have in common, see :func:`pickled`.
        request: what to do.
        limits: what the child may have.
        devices: the GPUs it sees, as CUDA_VISIBLE_DEVICES has them.
        folder: it works in, if there is such a one.

    Attributes:
        request: as given.
        answers: can be read from once the child has ended.
    """

    def __init__(self, job: bytes, request: Request, limits: Limits, devices: str, folder: str) -> None:
        self.request, self.limits = request, limits
        self._since, self._refused = time.monotonic(), ""
        self.answers, answering = _CONTEXT.Pipe(duplex=False)
        lifeline, self._lifeline = _CONTEXT.Pipe(duplex=False)
        told = {"limits": asdict(limits), "devices": devices, "folder": folder}
        arguments = (answering, lifeline, job, json.dumps(request.to_dict()), json.dumps(told))
        _CONTEXT.set_forkserver_preload([_SERVED])
        self._process = _CONTEXT.Process(target=_work, args=arguments)
        try:
            with contextlib.nullcontext() if _of_main(job) else _nameless_main():
                self._process.start()
        except (OSError, EOFError) as reason:  # no more processes, files or memory; then the fork server is gone too
            self._refused = f"its process could not be started: {type(reason).__name__}: {reason}"
        finally:
            answering.close()
            lifeline.close()

    def ended(self, timeout: float = 0.0) -> Response | None:
        """What became of it, waiting ``timeout`` seconds for it to end; None if it still runs. Once only."""
        if self.answers.poll(timeout):
            try:
                response = Response.from_dict(json.loads(self.answers.recv_bytes()))
            except (EOFError, OSError):  # of a broken-off answer too
                response = self._response("lost", self._refused or self._how_it_died())
        elif self.limits.minutes is not None and time.monotonic() - self._since > 60 * self.limits.minutes:
            response = self._response("failed", f"took more than {self.limits.minutes:g} minutes")
        else:
            return None
        self.kill()  # what it has to say is said; whatever would hold it up on its way out does not matter
        return response

    def kill(self) -> None:
        """End it; it may have ended."""
        self._lifeline.close()
        self.answers.close()
        if not self._refused:
            self._process.kill()
            self._process.join()

    def _response(self, status: Status, reason: str) -> Response:
        seconds = time.monotonic() - self._since
        return Response(self.request.trial, self.request.attempt, status, (), seconds, reason)

    def _how_it_died(self) -> str:
        self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"


def pickled(job: Job) -> bytes:
    """A job as it travels to another process.

    Raises:
        ConfigError: an object of it cannot be pickled, or its class stands in a notebook or an interactive session,
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
    """Whether a pickled job names something of the script that was started."""
    return b"__main__" in job


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Processes begun inside do not import the script that began them: they have no need of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(answering: Connection, lifeline: Connection, job: bytes, request: str, told: str) -> None:
    """Train one child and send the answer, in the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the search decides
    _end_with_the_search(lifeline)
    asked = Request.from_dict(json.loads(request))
    try:
        response = _trained(pickle.loads(job), asked, **json.loads(told))  # noqa: S301 - the search wrote it
    except Exception as error:  # noqa: BLE001 - not the child's: the data cannot be read here, a package is missing
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        response = Response(asked.trial, asked.attempt, "lost", reason=reason)
    answering.send_bytes(json.dumps(response.to_dict()).encode())


def _end_with_the_search(lifeline: Connection) -> None:
    """Be killed when the other end of the pipe, which nobody writes to, is closed."""

    def wait() -> None:
        lifeline.poll(None)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":  # the kernel's own signal, for when no other thread is given a turn
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _trained(job: Job, request: Request, limits: dict[str, Any], devices: str, folder: str) -> Response:
    with contextlib.suppress(OSError):  # relative names mean what they mean to the search; another machine may lack it
        os.chdir(folder)
    os.environ["CUDA_VISIBLE_DEVICES"] = devices
    if limits["memory_gb"] is not None:
        most = int(limits["memory_gb"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    import torch

    torch.set_num_threads(limits["threads"])
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return job.worker()(request)
