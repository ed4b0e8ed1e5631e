"""One child of a search: a short training, the figure after each epoch, and when to give it up."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch import nn

from lightning_nas.data.base import SearchData
from lightning_nas.errors import NumericalError
from lightning_nas.files import atomic
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.inheriting import InheritingSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator
from lightning_nas.trials.requests import Inherited, Request, Response
from lightning_nas.truth.training import EachEpoch, StandAloneTraining

log = logging.getLogger(__name__)


class Child(StandAloneTraining):
    """How children are trained: on the weights and arch parts, looked at after every epoch on the validation part.

    A child ends early if its figure has not improved for ``patience`` epochs, or if its best reward so far is below the
    bar that the search has set for this epoch (:attr:`~lightning_nas.trials.requests.Request.bars`).

    Args:
        patience: epochs without improvement; None for all epochs.
        options: of :class:`~lightning_nas.truth.training.StandAloneTraining`.
    """

    def __init__(self, *, patience: PositiveInt | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.patience = patience

    def work(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> Response:
        """Do what is asked. Whatever goes wrong with the child is the response's reason, and in the log."""
        began = time.monotonic()
        asked = (request.trial, request.attempt)
        try:
            curve = self._trained(request, space, data, task)
        except Exception as error:
            log.debug("trial %d failed", request.trial, exc_info=True)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return Response(*asked, "failed", (), time.monotonic() - began, reason)
        return Response(*asked, "finished", tuple(curve), time.monotonic() - began)

    def _trained(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> list[float]:
        curve, rewards = list[float](), list[float]()

        def look(network: nn.Module) -> bool:
            batches = data.evaluation_loader("val", searched=True)
            curve.append(task.evaluate(network, batches, space.num_classes))
            if not math.isfinite(curve[-1]):
                raise NumericalError(f"validation {task.score_name} is {curve[-1]} after epoch {len(curve)}")
            rewards.append(task.reward(curve[-1]))
            return self._gives_up(rewards, request.bars)

        def begin() -> nn.Module:
            given = request.inherits
            return space.network(request.architecture) if given is None else _inherited(request, given, space, data)

        architecture = space.validate(request.architecture)
        network = self.fit(space, architecture, data, task, request.seed, [EachEpoch(look)], make=begin)
        if request.keep is not None:
            with atomic(Path(request.keep), "wb") as file:
                torch.save(network.state_dict(), file)
        return curve

    def _gives_up(self, rewards: list[float], bars: tuple[float, ...]) -> bool:
        best = rewards.index(max(rewards))
        stale = self.patience is not None and len(rewards) - 1 - best >= self.patience
        return stale or (len(rewards) <= len(bars) and rewards[best] < bars[len(rewards) - 1])


def _inherited(request: Request, given: Inherited, space: SearchSpace, data: SearchData) -> nn.Module:
    """The child's network with the weights of another, as the space transforms them."""
    assert isinstance(space, InheritingSpace), f"{space.name} has no way to inherit weights"
    parent = space.network(given.architecture)
    parent.load_state_dict(torch.load(given.weights, weights_only=True, map_location="cpu"))
    rng = generator(request.seed, "inherit", request.architecture.key)
    (images, _), *_ = data.score_batches(1)[0]
    return space.inherit(parent, given.architecture, request.architecture, rng, images=images)
