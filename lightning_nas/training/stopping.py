"""The end of a search after a number of batches."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pydantic import PositiveInt
from pytorch_lightning.callbacks import Callback

from lightning_nas.training.module import ResumableModule


class StopAfter(Callback):
    """Stop after a number of batches, which is what ``Trainer(max_steps=...)`` means for a search.

    Lightning counts the steps of all optimisers that a module steps itself: with two, ``max_steps=4`` would end after
    two batches. As Lightning's own limit, this one goes before ``min_epochs``.

    Args:
        batches: to train on, counted from the beginning of the run.
    """

    def __init__(self, batches: PositiveInt) -> None:
        self.batches = batches

    @classmethod
    def instead_of_steps(cls, trainer: pl.Trainer) -> list[Callback]:
        """Take over the ``max_steps`` of a trainer; nothing where it has none."""
        limit = trainer.max_steps
        if limit == -1:
            return []
        trainer.fit_loop.epoch_loop.max_steps = -1
        return [cls(limit)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_if_due(trainer, pl_module)  # a run that was resumed after its end

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._stop_if_due(trainer, pl_module, complete=1)  # the module counts this batch after the callbacks

    def _stop_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule, complete: int = 0) -> None:
        assert isinstance(pl_module, ResumableModule)
        if pl_module.position + complete >= self.batches:
            trainer.fit_loop.min_epochs = None
            trainer.should_stop = True
