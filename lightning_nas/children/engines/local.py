"""One operating-system process per child: a child that dies takes nothing with it.

Processes come from a fork server that has imported torch and Lightning already, so that one begins in some tens of
milliseconds. Each holds on to a pipe of the search's process, and ends when that does, however it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from threading import Thread
from types import ModuleType
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from lightning_nas.children.engines.base import Engine, Job
from lightning_nas.children.engines.resources import slots_of
from lightning_nas.children.requests import Request, Response

_SERVED = ("lightning_nas.children.job", "lightning_nas.data.vision")
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class _Process:
    request: Request
    process: Any
    answers: Connection
    slot: int
    since: float


class LocalEngine(Engine):
    """Trains each child in a process of its own, as many at once as there are slots.

    Args:
        job: see :func:`lightning_nas.children.job.make_worker`.
        slots: processes at once; None for as many as the cores, and GPUs if children have some, allow.
        threads: of torch, in each.
        gpus: of each; 0.25 lets four share one. Nothing keeps them from taking each other's memory.
        minutes: a child may take; then it is killed, and failed. None for no end.
        memory_gb: of address space a child may have; a child that wants more is out of memory. None for no limit.

    Raises:
        ConfigError: the machine has not the resources of one child.
    """

    def __init__(
        self,
        job: Job,
        *,
        slots: PositiveInt | None = None,
        threads: PositiveInt = 1,
        gpus: NonNegativeFloat = 0.0,
        minutes: PositiveFloat | None = None,
        memory_gb: PositiveFloat | None = None,
    ) -> None:
        self.job, self.minutes, self.memory_gb, self.threads, self.gpus = job, minutes, memory_gb, threads, gpus
        self._slots = slots_of(slots, threads=threads, gpus=gpus)
        self._free, self._waiting = list(range(self._slots)), deque[Request]()
        self._running: list[_Process] = []
        _CONTEXT.set_forkserver_preload(list(_SERVED))
        atexit.register(self.close)  # before the interpreter waits for processes

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, request: Request) -> None:
        self._waiting.append(request)
        self._start()

    def finished(self, timeout: float) -> list[Response]:
        wait([running.answers for running in self._running], timeout)
        responses = []
        for running in list(self._running):
            if (response := self._ended(running)) is not None:
                responses.append(response)
                self._running.remove(running)
                self._free.append(running.slot)
        self._start()
        return responses

    def close(self) -> None:
        atexit.unregister(self.close)
        self._waiting.clear()
        for running in self._running:
            running.process.kill()
            running.process.join()
        self._running.clear()
        self._free = list(range(self._slots))

    def _start(self) -> None:
        while self._waiting and self._free:
            request, slot = self._waiting.popleft(), self._free.pop()
            answers, answering = _CONTEXT.Pipe()
            told = {"threads": self.threads, "memory_gb": self.memory_gb, "devices": self._devices(slot)}
            arguments = (answering, json.dumps(self.job), json.dumps(request.to_dict()), told)
            process = _CONTEXT.Process(target=_train, args=arguments)
            with _nameless_main():
                process.start()
            answering.close()
            self._running.append(_Process(request, process, answers, slot, time.monotonic()))

    def _devices(self, slot: int) -> str | None:
        """The GPUs of a slot."""
        if not self.gpus:
            return None
        if self.gpus < 1:
            return str(slot // int(1 / self.gpus))
        each = int(self.gpus)
        return ",".join(map(str, range(slot * each, (slot + 1) * each)))

    def _ended(self, running: _Process) -> Response | None:
        request = running.request
        asked, seconds = (request.trial, request.attempt), time.monotonic() - running.since
        response: Response | None = None
        if running.answers.poll():
            try:
                response = Response.from_dict(json.loads(running.answers.recv_bytes()))
            except EOFError:
                running.process.join()
                response = Response(*asked, "lost", (), seconds, _how_it_died(running.process.exitcode))
        elif self.minutes is not None and seconds > 60 * self.minutes:
            running.process.kill()
            response = Response(*asked, "failed", (), seconds, f"took more than {self.minutes:g} minutes")
        if response is not None:
            running.answers.close()
            running.process.join()
        return response


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Processes begun inside do not import the script that began them: they have no need of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _train(answering: Connection, job: str, request: str, told: dict[str, Any]) -> None:
    """What the process of a child does."""
    Thread(target=_end_with_the_search, args=(answering,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the search decides
    if told["devices"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = told["devices"]
    if told["memory_gb"] is not None:
        most = int(told["memory_gb"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    answering.send_bytes(json.dumps(trained(job, request, told["threads"]).to_dict()).encode())


def _end_with_the_search(lifeline: Connection) -> None:
    """Wait for the other end to close, which nobody writes to."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os.kill(os.getpid(), signal.SIGKILL)


def trained(job: str, request: str, threads: int) -> Response:
    """Train one child in a process that does nothing else; all JSON, as it comes over a wire."""
    import torch

    from lightning_nas.children.job import make_worker

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return make_worker(json.loads(job))(Request.from_dict(json.loads(request)))
