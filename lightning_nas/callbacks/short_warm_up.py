"""Shortens the warm-up of a search, so that a debugging run of few epochs takes every kind of step."""

from __future__ import annotations

import pytorch_lightning as pl
from pydantic import NonNegativeInt
from pytorch_lightning.callbacks import Callback

from lightning_nas.strategies.base import SearchModule


class ShortWarmUp(Callback):
    """Limits the epochs without architecture steps.

    Args:
        epochs: longest warm-up; a shorter one of the strategy is kept.

    Example:
        >>> from lightning_nas.strategies.one_path.mdenas import MdeNAS
        >>> from lightning_nas.testing.toys import ToySpace
        >>> search = MdeNAS(ToySpace(), warmup_epochs=30)
        >>> ShortWarmUp(epochs=1).setup(pl.Trainer, search, "fit")
        >>> search.warmup_epochs
        1
    """

    def __init__(self, epochs: NonNegativeInt = 1) -> None:
        self.epochs = epochs

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module, SearchModule):
            pl_module.shorten_warm_up(self.epochs)
