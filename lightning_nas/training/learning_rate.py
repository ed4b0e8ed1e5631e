"""The learning rate of a training, found by a range test on a copy of its network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl

from lightning_nas.errors import NumericalError
from lightning_nas.training.network import NetworkTraining, quiet_trainer, unannounced
from lightning_nas.training.seeding import seeded

_FROM, _TO, _STEPS = 1e-5, 1.0, 100
_FIRST = 10  # steps whose smoothed loss is that of a few batches
_KEPT = 0.9  # of the smoothed loss, from step to step
_ROUNDING = 1e-6


def range_test(
    module: NetworkTraining, loader: Callable[[NetworkTraining], Iterable[Any]], **options: Any
) -> tuple[float, list[dict[str, float]]]:
    """A tenth of the rate at which the loss is lowest while the rate grows (Smith, 2017, arXiv:1506.01186, 3.3).

    A copy trains for up to 100 steps, from a rate of 1e-5 to nearly 1 in equal factors, and stops where the smoothed
    loss is four times its lowest, or not finite. A tenth of the lowest is the rule of fastai. The result is a function
    of the module and the data. Lightning's ``lr_find`` is not used: its smoothed loss begins at half the loss, so that
    the lowest is among the first, and its suggestion is decided by noise among the smallest rates.

    Args:
        module: is left as it is.
        loader: makes the training batches of a copy, from its ``position`` on.
        options: of the Trainer of the copy.

    Returns:
        The rate, and the curve: ``lr`` and the smoothed ``loss`` of each step.

    Raises:
        NumericalError: the loss fell nowhere, or was finite in too few steps to tell.
    """
    trial, growing = copy.deepcopy(module), _GrowingRate()
    with seeded(module.seed, "range test"), unannounced(), suppress(NumericalError):
        quiet_trainer(_STEPS, max_steps=_STEPS, callbacks=[growing], **options).fit(trial, loader(trial))
    curve = [{"lr": _rate(step), "loss": loss} for step, loss in enumerate(growing.losses)]
    return _tenth_of_lowest(growing.losses), curve


class _GrowingRate(pl.Callback):
    """Sets the rate of each step, and keeps the smoothed losses until they diverge."""

    def __init__(self) -> None:
        self.losses = list[float]()
        self._sum = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = _rate(len(self.losses))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        self._sum = _KEPT * self._sum + (1 - _KEPT) * float(outputs["loss"])
        self.losses.append(self._sum / (1 - _KEPT ** (len(self.losses) + 1)))
        trainer.should_stop = self.losses[-1] > 4 * min(self.losses)


def _rate(step: int) -> float:
    return float(_FROM * (_TO / _FROM) ** (step / _STEPS))


def _tenth_of_lowest(losses: Sequence[float]) -> float:
    """A tenth of the rate of the lowest loss; the first ten steps do not count.

    >>> round(_tenth_of_lowest([(step - 80) ** 2 for step in range(100)]), 3)
    0.01
    """
    if len(losses) < _FIRST + 2:
        raise NumericalError(f"no learning rate is found: the range test ended after {len(losses)} steps")
    lowest = min(range(_FIRST, len(losses)), key=losses.__getitem__)
    if losses[lowest] >= losses[_FIRST] * (1 - _ROUNDING):
        raise NumericalError(f"no learning rate is found: the loss falls at none from {_FROM:g} to {_TO:g}")
    return _rate(lowest) / 10
