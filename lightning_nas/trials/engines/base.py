"""The contracts of jobs and engines: an engine takes requests and returns responses in the order they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_nas.signature import Checked
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


class Engine(Checked, ABC):
    """Run children.

    Attributes:
        instant: whether results cost nothing, so that they can be requested again after a kill.
        lengths: epochs after which there are results; None for any.
        digest: digest of what results depend on besides the configuration; empty if there is nothing.
        figure: key of the only metric that it has results of, such as ``acc``; None for that of any task.
    """

    instant: bool = False
    lengths: tuple[int, ...] | None = None
    digest: str = ""
    figure: str | None = None

    @classmethod
    def check(cls, **settings: Any) -> None:
        """Refuse what this machine cannot serve, before data are read and a job is made of them.

        Args:
            settings: of the constructor, without the job; what is left out has its default.

        Raises:
            InputError: names the setting.
        """

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of requests that run at once; further requests wait. It may change during a search."""

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Accept a request and return at once."""

    @abstractmethod
    def finished(self, timeout: float) -> list[Response]:
        """Responses since the last call, waiting up to ``timeout`` seconds for the first; may be empty.

        An engine that runs children in this process returns when one has ended.
        """

    def close(self) -> None:
        """End running children and release resources; an engine may be closed twice."""
