"""Training speed (Ru, Lyle, Schut, Fil, van der Wilk and Gal, NeurIPS 2021, arXiv:2006.04492): the sum of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
from pydantic import NonNegativeInt, PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.ranges import Count, Epochs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.proxy_child import as_reward
from lightning_nas.trials.requests import Request
from lightning_nas.truth.short_training import SHORT_SGD, ShortTraining


class TrainingLosses(ShortTraining, Judge):
    r"""Judge a candidate by how fast it learns: the sum of its training losses over a short training.

    .. math:: \mathrm{TSE}(T) = \sum_{t=W+1}^{T} \frac{1}{B} \sum_{b=1}^{B} L_{t,b}

    over epochs t and batches b. The lower, the better; the figure after each epoch is
    :func:`~lightning_nas.trials.proxy_child.as_reward` of its negative. Nothing is validated, so no held-out image is
    looked at.

    Source: Ru et al., NeurIPS 2021, arXiv:2006.04492, equation 1; with ``warm_up`` its TSE-E, which leaves the first
    epochs out. Deviations: none known.

    Args:
        epochs: length of each training, T.
        warm_up: first epochs whose losses do not count, W.
        optimizer: makes the optimiser from the list of parameters.
        scheduler: makes the learning-rate schedule from the optimiser; it is stepped once per epoch. "cosine": cosine
            annealing to 0 over ``epochs``. None: a constant rate.
        clip: upper bound of the gradient norm; None for no clipping.
        limit_train_batches: upper bound of the batches per epoch, for quick trials; None for all.

    Raises:
        ConfigError: no epoch is left.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> space, data = ToySpace(), ToyData(images=256)
        >>> data.setup("fit")
        >>> judge = TrainingLosses(epochs=2)
        >>> response = judge.work(Request(0, 1, space.best, seed=0), space, data, Classification())
        >>> response.status, len(response.curve)
        ('finished', 2)
    """

    def __init__(
        self,
        *,
        epochs: Epochs = 3,
        warm_up: NonNegativeInt = 0,
        optimizer: Callable[[list[nn.Parameter]], Optimizer] = SHORT_SGD,
        scheduler: Callable[[Optimizer], LRScheduler] | Literal["cosine"] | None = "cosine",
        clip: PositiveFloat | None = None,
        limit_train_batches: Count | None = None,
    ) -> None:
        super().__init__(
            epochs=epochs, optimizer=optimizer, scheduler=scheduler, clip=clip, limit_train_batches=limit_train_batches
        )
        if warm_up >= epochs:
            raise ConfigError(f"child.warm_up={warm_up}: no loss of epochs={epochs} counts; legal: fewer")
        self.warm_up = warm_up

    def curve(self, request: Request, space: SearchSpace, data: SearchData, task: Task) -> list[float]:
        noted = _Losses()
        self.fit(space, space.validate(request.architecture), data, task, request.seed, [noted])
        means = [sum(losses) / len(losses) for losses in noted.epochs]
        return [as_reward(-sum(means[self.warm_up : last])) for last in range(1, len(means) + 1)]


class _Losses(pl.Callback):
    """The loss of every training batch, by epoch; a training whose loss is not finite has ended before."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.epochs[-1].append(float(outputs["loss"]))
