"""The engine that trains each child in a process of its own on this machine."""

from __future__ import annotations

import atexit
from collections import deque
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat

from lightning_nas.ranges import Threads
from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.engines.process import ChildProcess, JobServer, Limits, pickled
from lightning_nas.trials.engines.resources import devices_of, slots_of
from lightning_nas.trials.requests import Request, Response


class LocalEngine(Engine):
    """Train each child in a process of its own, as many at once as there are slots.

    The data are set up once, in a server process that forks the children
    (:mod:`~lightning_nas.trials.engines.server`), so a data set must not read through a file handle that it opened in
    ``setup``, as with the workers of a torch DataLoader.

    Args:
        job: what the children have in common; it is pickled once.
        slots: number of processes at once; None for as many as the cores and, with ``gpus``, the GPUs allow.
        threads: intra-op threads of torch in each process.
        gpus: GPUs of each process, a whole number or a fraction: with 0.25 four processes share a GPU, without
            protection of their memory from each other.
        minutes: wall-clock limit of a child, after which it is killed and failed; None for no limit.
        memory_gb: limit of a child's address space, above which it is out of memory; None for no limit.
        silent_seconds: time without a sign of life, as of a stopped process, after which a child is killed and lost.

    Raises:
        ConfigError: the machine lacks the resources of one child, or the job cannot be pickled.
    """

    def __init__(
        self,
        job: Job,
        *,
        slots: Threads | None = None,
        threads: Threads = 1,
        gpus: NonNegativeFloat = 0.0,
        minutes: PositiveFloat | None = None,
        memory_gb: PositiveFloat | None = None,
        silent_seconds: PositiveFloat = 120.0,
    ) -> None:
        self._job, self.gpus, self.limits = pickled(job), gpus, Limits(threads, minutes, memory_gb, silent_seconds)
        self._slots = slots_of(slots, threads=threads, gpus=gpus)
        self._free, self._waiting = list(range(self._slots)), deque[Request]()
        self._server: JobServer | None = None  # begins with the first child
        self._running: dict[ChildProcess, int] = {}  # and their slots
        atexit.register(self.close)  # before the interpreter waits for processes

    @classmethod
    def check(cls, *, slots: int | None = None, threads: int = 1, gpus: float = 0.0, **_: Any) -> None:
        slots_of(slots, threads=threads, gpus=gpus)

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, request: Request) -> None:
        self._waiting.append(request)
        self._start()

    def finished(self, timeout: float) -> list[Response]:
        wait([child.answers for child in self._running], timeout)
        responses = []
        for child in list(self._running):
            if (response := child.ended()) is not None:
                responses.append(response)
                self._free.append(self._running.pop(child))
        self._start()
        return responses

    def close(self) -> None:
        atexit.unregister(self.close)
        self._waiting.clear()
        for child in self._running:
            child.kill()
        if self._server is not None:
            self._server.kill()
            self._server = None
        self._running.clear()
        self._free = list(range(self._slots))

    def _start(self) -> None:
        while self._waiting and self._free:
            request, slot = self._waiting.popleft(), self._free.pop()
            if self._server is not None and not self._server.alive:
                self._server.kill()
                self._server = None
            if self._server is None:
                self._server = JobServer(self._job, self.limits, str(Path.cwd()))
            self._running[ChildProcess(self._server, request, devices_of(slot, self.gpus))] = slot
