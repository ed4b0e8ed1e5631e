"""An engine for searches that train in parts: figures of no meaning, and a count of epochs."""

from collections.abc import Callable

from lightning_nas.architecture import Architecture
from lightning_nas.training.seeding import mix
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Request, Response

RUNGS = (1, 3, 9)


def figure(architecture: Architecture, epochs: int) -> float:
    """Of no meaning; its order changes from rung to rung."""
    return (mix("figure", *architecture.options, epochs) % 10_000) / 10_000


class Figures(Engine):
    """Answers with :func:`figure`, and counts epochs."""

    def __init__(self, worth: Callable[[Architecture, int], float] = figure) -> None:
        self.worth, self.epochs, self.asked = worth, 0, list[Request]()
        self._ended: list[Response] = []

    @property
    def slots(self) -> int:
        return 64

    def submit(self, request: Request) -> None:
        self.asked.append(request)
        until = request.epochs or RUNGS[-1]
        curve = [self.worth(request.architecture, epoch) for epoch in range(request.after + 1, until + 1)]
        self.epochs += len(curve)
        self._ended.append(Response(request.trial, request.attempt, "finished", tuple(curve), float(len(curve))))

    def finished(self, timeout: float) -> list[Response]:
        ended, self._ended = self._ended, []
        return ended
