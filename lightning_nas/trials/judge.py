"""The contract of what judges a candidate: a training, or a score without one."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from typing import ClassVar

from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.requests import Request, Response

log = logging.getLogger(__name__)


class Judge(ABC):
    """Judge one candidate at a time: the work of an engine.

    Attributes:
        images_only: whether candidates must be networks of images.
    """

    images_only: ClassVar[bool] = False

    @abstractmethod
    def curve(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> list[float]:
        """The figures of a candidate, one an epoch; the last one counts, and its reward is at least 0.

        The result depends on the arguments alone, not on the global random state.

        Raises:
            NumericalError: a figure is not finite.
        """

    def check(self, input_is_image: bool) -> None:
        """Refuse a space whose networks cannot be judged.

        Args:
            input_is_image: whether networks take images.

        Raises:
            ConfigError: they do not, and the judge needs them.
        """
        if self.images_only and not input_is_image:
            raise ConfigError(
                f"{type(self).__name__}: scores are of networks that take images, and these take words; choose a space "
                "of images, or child=default"
            )

    def work(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> Response:
        """Judge the candidate of a request; an error becomes a failed response with its reason."""
        began = time.monotonic()
        asked = (request.trial, request.attempt)
        try:
            curve = self.curve(request, space, data, task)
        except Exception as error:
            log.debug("trial %d failed", request.trial, exc_info=True)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Response(*asked, "failed", (), time.monotonic() - began, reason)
        return Response(*asked, "finished", tuple(curve), time.monotonic() - began)
