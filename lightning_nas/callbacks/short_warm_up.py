"""Shortens the warm-up of a search, so that a debugging run of few epochs takes every kind of step."""

from __future__ import annotations

from pydantic import NonNegativeInt
from pytorch_lightning.callbacks import Callback

from lightning_nas.signature import Checked


class ShortWarmUp(Checked, Callback):
    """Limits the epochs without architecture steps of a search, which looks for :attr:`longest_warm_up` at the start.

    The run then counts as a debugging run: P-DARTS may end before its last stage.

    Args:
        epochs: longest warm-up; a shorter one of the strategy is kept.

    Example:
        >>> from lightning_nas.strategies.one_path.mdenas import MdeNAS
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search, trainer = MdeNAS(ToySpace(), warmup_epochs=30, path_batches=2), quiet_trainer(2)
        >>> trainer.callbacks.append(ShortWarmUp(epochs=1))
        >>> trainer.fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.warmup_epochs, search.turns
        (1, 2)
    """

    def __init__(self, epochs: NonNegativeInt = 1) -> None:
        self.longest_warm_up = epochs
