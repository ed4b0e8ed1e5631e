"""The engine that trains one child after another in the process of the search."""

from __future__ import annotations

from collections import deque

from lightning_nas.trials.engines.base import Engine, Job, Worker
from lightning_nas.trials.requests import Request, Response


class SerialEngine(Engine):
    """Train in this process in the order of submission: for debugging, and the reference of the other engines.

    Args:
        job: what the children have in common.
        worker: trains one child; None for ``job.worker()``.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.trials.child import Child
        >>> from lightning_nas.trials.job import ObjectsJob
        >>> space = ToySpace()
        >>> engine = SerialEngine(ObjectsJob(ToyData(images=256), space, Classification(), Child(epochs=1)))
        >>> engine.submit(Request(0, 1, space.best, seed=0))
        >>> [response.status for response in engine.finished(0.0)]
        ['finished']
    """

    def __init__(self, job: Job, *, worker: Worker | None = None) -> None:
        self.worker, self._waiting = worker or job.worker(), deque[Request]()

    @property
    def slots(self) -> int:
        return 1

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def finished(self, timeout: float) -> list[Response]:
        del timeout
        return [self.worker(self._waiting.popleft())] if self._waiting else []
