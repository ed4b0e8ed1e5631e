"""The contract of an engine: requests go in, responses come out, in whatever order they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lightning_nas.trials.requests import Request, Response

Worker = Callable[[Request], Response]
"""Does what a request asks; a failing child is a response, not an error."""

Job = dict[str, Any]
"""What all children of a search have in common, plain JSON: see :func:`lightning_nas.trials.job.make_worker`."""


class Engine(ABC):
    """Runs children.

    Attributes:
        instant: results cost nothing, and may be asked for again after a kill.
        digest: of what results depend on besides the configuration, if there is anything.
    """

    instant: bool = False
    digest: str = ""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many requests run at once; more may be submitted, but wait. May change while a search runs."""

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Take a request; returns at once."""

    @abstractmethod
    def finished(self, timeout: float) -> list[Response]:
        """What has ended since the last call, waiting ``timeout`` seconds for the first to do so; may be empty.

        An engine that runs children in this process returns when one has ended.
        """

    def close(self) -> None:  # noqa: B027 - an engine may have nothing to end
        """End all that still runs, and give resources back; an engine may be closed twice."""
