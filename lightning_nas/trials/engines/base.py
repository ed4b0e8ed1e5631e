"""The contracts of jobs and engines: an engine takes requests and returns responses in the order they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning_nas.trials.requests import Request, Response

if TYPE_CHECKING:  # a process that only passes jobs on needs no torch
    from lightning_nas.spaces.base import SearchSpace

Worker = Callable[[Request], Response]
"""Trains one child as the request asks; a child that fails is a response, not an error."""


class Job(ABC):
    """Everything that the children of a search have in common.

    An engine makes the worker wherever it trains children: in this process, or in others after pickling the job.
    """

    @abstractmethod
    def space(self) -> SearchSpace:
        """The search space of the children."""

    @abstractmethod
    def worker(self) -> Worker:
        """Set up the data and return a function that trains one child per request.

        Raises:
            InputError: the data cannot be read, or the parts of the job are not legal.
        """


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
