"""Weight averaging from the epoch in which a training stops to improve: NT-ASGD."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pydantic import PositiveInt
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import ASGD

from lightning_nas.errors import ConfigError
from lightning_nas.signature import Checked


class NonMonotonicAveraging(Checked, Callback):
    """Switch ``torch.optim.ASGD`` from plain SGD to averaging (Merity et al., 2018, arXiv:1708.02182, section 4).

    With ``lambd=0`` and a ``t0`` that is never reached, ASGD takes the steps of SGD. The switch sets ``t0`` to the
    number of steps taken, and from then on the optimiser keeps the mean of the weights after every later step. It
    happens when the validation loss exceeds the minimum over all evaluations before the last ``patience`` ones.
    Afterwards the mean is validated, and at the end it becomes the network's weights. A checkpoint saved by a later
    callback at the end holds the mean as the network, and the last weights of the optimiser here, to go on from.

    Differs from the authors' code: the optimiser is kept; its steps and its mean equal those of a new optimiser.

    Args:
        patience: number of evaluations without improvement.
    """

    def __init__(self, patience: PositiveInt) -> None:
        self.patience = patience
        self.losses: list[float] = []
        self.averages = False
        self._own: dict[Tensor, Tensor] = {}
        self._last: list[Tensor] = []  # weights at the end, before the mean took their place

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.optimizers:
            _asgd(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for parameter, value in zip(_parameters(trainer) if self._last else (), self._last, strict=True):
            parameter.data.copy_(value)
        self._last = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.averages:
            self._last = [parameter.detach().clone() for parameter in _parameters(trainer)]
            self._use(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.averages:
            self._own = {parameter: parameter.detach().clone() for parameter in _averages(trainer)}
            self._use(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for parameter, value in self._own.items():
            parameter.data.copy_(value)
        self._own = {}
        optimizer, loss = _asgd(trainer), float(trainer.callback_metrics["val/loss"])
        before = self.losses[: -self.patience]
        if not self.averages and before and loss > min(before):
            self.averages = True
            for group in optimizer.param_groups:
                group["t0"] = max(float(state["step"]) for state in optimizer.state.values())
        self.losses.append(loss)

    def _use(self, trainer: pl.Trainer) -> None:
        """Replace the weights by their mean."""
        for parameter, average in _averages(trainer).items():
            parameter.data.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "averages": self.averages, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.averages = list(state_dict["losses"]), state_dict["averages"]
        self._last = list(state_dict.get("last", []))  # not in checkpoints of 0.1


def _asgd(trainer: pl.Trainer) -> ASGD:
    [optimizer] = trainer.optimizers
    if not isinstance(optimizer, ASGD):
        raise ConfigError(
            f"retrain.average_after needs retrain.optimizer._target_=torch.optim.ASGD, not {type(optimizer).__name__}"
        )
    return optimizer


def _parameters(trainer: pl.Trainer) -> list[Tensor]:
    return [parameter for group in _asgd(trainer).param_groups for parameter in group["params"]]


def _averages(trainer: pl.Trainer) -> dict[Tensor, Tensor]:
    return {parameter: state["ax"] for parameter, state in _asgd(trainer).state.items()}
