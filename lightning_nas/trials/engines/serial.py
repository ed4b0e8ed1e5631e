"""One child after another, in the process of the search: for debugging, and the reference of the other engines."""

from __future__ import annotations

from collections import deque

from lightning_nas.trials.engines.base import Engine, Job, Worker
from lightning_nas.trials.requests import Request, Response


class SerialEngine(Engine):
    """Trains in this process, in the order of submission.

    Args:
        job: what the children have in common.
        worker: does what is asked; made from the job unless given.
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
