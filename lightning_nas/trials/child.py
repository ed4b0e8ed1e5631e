"""One child of a search: a short training, its validation figure after every epoch, and early stopping."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import CheckpointError, ConfigError, NumericalError
from lightning_nas.files import replace_file
from lightning_nas.ranges import Count, Epochs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.inheriting import InheritingSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.checkpoint import load_checked, sealed, unsealed
from lightning_nas.training.seeding import generator
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.requests import Inherited, Request
from lightning_nas.truth.short_training import SHORT_SGD, EachEpoch, ShortTraining

log = logging.getLogger(__name__)


class Child(ShortTraining, Judge):
    """Train a child on the weights and arch parts and evaluate it on the validation part after every epoch.

    A child ends early if its figure has not improved for ``patience`` epochs, or if its best reward so far is below the
    bar of this epoch (:attr:`~lightning_nas.trials.requests.Request.bars`), which the search sets.

    Args:
        epochs: length of each training.
        optimizer: makes the optimiser from the list of parameters.
        scheduler: makes the learning-rate schedule from the optimiser; it is stepped once per epoch. "cosine": cosine
            annealing to 0 over ``epochs``. None: a constant rate.
        clip: upper bound of the gradient norm; None for no clipping.
        limit_train_batches: upper bound of the batches per epoch, for quick trials; None for all.
        patience: epochs without improvement after which a child ends; None to train all epochs. A training in parts
            cannot have it.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> space, data = ToySpace(), ToyData(images=256)
        >>> data.setup("fit")
        >>> response = Child(epochs=2).work(Request(0, 1, space.best, seed=0), space, data, Classification())
        >>> response.status, len(response.curve)
        ('finished', 2)
    """

    def __init__(
        self,
        *,
        epochs: Epochs = 3,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = SHORT_SGD,
        scheduler: Callable[[Optimizer], LRScheduler] | Literal["cosine"] | None = "cosine",
        clip: PositiveFloat | None = None,
        limit_train_batches: Count | None = None,
        patience: Count | None = None,
    ) -> None:
        super().__init__(
            epochs=epochs, optimizer=optimizer, scheduler=scheduler, clip=clip, limit_train_batches=limit_train_batches
        )
        self.patience = patience

    def curve(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> list[float]:
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
        if request.epochs is not None:
            if request.epochs > self.epochs:
                raise ConfigError(f"asked for {request.epochs} epochs of a training of child.epochs={self.epochs}")
            return self._in_parts(request, architecture, space, data, task, curve, look)
        network = self.fit(space, architecture, data, task, request.seed, [EachEpoch(look)], make=begin)
        if request.keep is not None:
            buffer = io.BytesIO()
            torch.save(network.state_dict(), buffer)
            replace_file(request.keep, *sealed(buffer.getbuffer()))
        return curve

    def _in_parts(
        self,
        request: Request,
        architecture: Architecture,
        space: SearchSpace,
        data: SearchData,
        task: Task,
        curve: list[float],
        look: Callable[[nn.Module], bool],
    ) -> list[float]:
        """Train to the epoch of the request, from where the last part paused; returns the figures of this part.

        Without the file of the last part the training begins anew, and ends the same.
        """
        if self.patience is not None:
            raise ConfigError(f"child.patience={self.patience}: a training in parts pauses at its rungs; leave it out")
        resume = None if request.resumes is None else Path(request.resumes)
        keep = None if request.keep is None else Path(request.keep)
        if resume is not None:
            try:
                unsealed(resume)
            except CheckpointError as reason:
                log.warning("trial %d is trained from the start again: %s", request.trial, reason)
                resume = None
        asked = (space, architecture, data, task, request.seed, [EachEpoch(look)])
        self.fit(*asked, until=request.epochs, resume=resume, keep=keep)
        return curve if resume is not None else curve[request.after :]

    def _gives_up(self, rewards: list[float], bars: tuple[float, ...]) -> bool:
        best = rewards.index(max(rewards))
        stale = self.patience is not None and len(rewards) - 1 - best >= self.patience
        return stale or (len(rewards) <= len(bars) and rewards[best] < bars[len(rewards) - 1])


def _inherited(request: Request, given: Inherited, space: SearchSpace, data: SearchData) -> nn.Module:
    """The network of a child whose initial weights are those of another network, transformed by the space."""
    assert isinstance(space, InheritingSpace), f"{space.name} has no way to inherit weights"
    parent = space.network(given.architecture)
    parent.load_state_dict(load_checked(Path(given.weights), map_location="cpu"))
    rng = generator(request.seed, "inherit", request.architecture.key)
    (images, _), *_ = data.calibration_batches(1)
    return space.inherit(parent, given.architecture, request.architecture, rng, images=images)
