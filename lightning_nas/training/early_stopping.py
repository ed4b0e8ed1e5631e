"""The end of a training that no longer improves, with the weights of its best epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from lightning_nas.signature import Checked
from lightning_nas.tasks.base import Task
from lightning_nas.training.network import NetworkTraining


class BestEpoch(Checked, EarlyStopping):
    """Lightning's ``EarlyStopping`` on the task's figure of the validation part, which gives back the best weights.

    At the end of the training, early or not, the network has the weights of the epoch with the best figure, the first
    of equal ones. A checkpoint saved by a later callback at the end holds them, and the last weights here, to go on
    from. A resumed training that had ended early ends at once.

    Args:
        task: its ``score_name`` is monitored; higher or lower is better as in its ``reward``.
        patience: number of validations without improvement after which the training ends.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> from lightning_nas.tasks.language_modelling import LanguageModelling
        >>> [(stop.monitor, stop.mode) for stop in (BestEpoch(Classification(), 3), BestEpoch(LanguageModelling(), 3))]
        [('val/acc', 'max'), ('val/ppl', 'min')]
    """

    def __init__(self, task: Task, patience: PositiveInt) -> None:
        mode = "max" if task.reward(2.0) > task.reward(1.0) else "min"
        super().__init__(f"val/{task.score_name}", patience=patience, mode=mode, check_on_train_epoch_end=False)
        self.best_epoch: int | None = None
        self._best: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}  # weights at the end, before the best ones took their place

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._last:
            _network(pl_module).load_state_dict(self._last)
            self._last = {}
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_skip_check(trainer) and self.wait_count == 0:
            self.best_epoch = trainer.current_epoch
            self._best = _copied(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._best:
            self._last = _copied(pl_module)
            _network(pl_module).load_state_dict(self._best)

    def state_dict(self) -> dict[str, Any]:
        own = {"best_epoch": self.best_epoch, "best": self._best, "last": self._last}
        return {**super().state_dict(), "best_score": float(self.best_score), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "best_score": torch.tensor(float(state_dict["best_score"]))})
        self.best_epoch = state_dict["best_epoch"]
        self._best, self._last = dict(state_dict["best"]), dict(state_dict["last"])


def _network(module: pl.LightningModule) -> torch.nn.Module:
    assert isinstance(module, NetworkTraining)
    return module.network


def _copied(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _network(module).state_dict().items()}
