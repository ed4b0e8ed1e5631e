"""One operating-system process per child on this machine: see :mod:`~lightning_nas.trials.engines.process`."""

from __future__ import annotations

import atexit
from collections import deque
from multiprocessing.connection import wait
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.engines.process import ChildProcess, JobServer, Limits, pickled
from lightning_nas.trials.engines.resources import devices_of, slots_of
from lightning_nas.trials.requests import Request, Response


class LocalEngine(Engine):
    """Trains each child in a process of its own, as many at once as there are slots.

    Args:
        job: what the children have in common; it is pickled once.
        slots: processes at once; None for as many as the cores, and GPUs if children have some, allow.
        threads: of torch, in each.
        gpus: of each, a whole number or a fraction: 0.25 lets four share one. Nothing keeps them from taking each
            other's memory.
        minutes: a child may take; then it is killed, and failed. None for no end.
        memory_gb: of address space a child may have; a child that wants more is out of memory. None for no limit.

    Raises:
        ConfigError: the machine lacks the resources of one child, or the job cannot be pickled.
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
        self._job, self.gpus, self.limits = pickled(job), gpus, Limits(threads, minutes, memory_gb)
        self._slots = slots_of(slots, threads=threads, gpus=gpus)
        self._free, self._waiting = list(range(self._slots)), deque[Request]()
        self._server: JobServer | None = None  # begins with the first child
        self._running: dict[ChildProcess, int] = {}  # and their slots
        atexit.register(self.close)  # before the interpreter waits for processes

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
