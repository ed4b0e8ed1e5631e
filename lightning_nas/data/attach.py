"""Ordinary data of ``trainer.fit`` replaced by search data before Lightning draws its first batch."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytorch_lightning as pl

from lightning_nas.data.base import SearchData
from lightning_nas.data.given import as_search_data
from lightning_nas.data.user_samples import described
from lightning_nas.errors import DataError


def attach(trainer: pl.Trainer, seed: int, *, own_loader: bool = False) -> SearchData:
    """Put search data in the place of what ``trainer.fit`` was given, so that Lightning's loops read from them.

    Call it in ``LightningModule.configure_callbacks``, the first hook that knows the trainer. Lightning then calls
    ``prepare_data`` and ``setup`` of the new data itself, so the data returned here are not set up yet. In a later hook
    (``setup``) the user's own ``setup`` has already run, outside of the seed, and the caller must call
    ``attach(trainer, seed).setup("fit")``. A second call returns the same data.

    Lightning has no public way to replace the data of a fit that has begun: this function is the only one that uses
    ``Trainer._data_connector`` and the ``_data_source`` of a loop.

    Args:
        trainer: while it fits a module.
        seed: of the division, the order and the augmentation, as ``seed`` of the command.
        own_loader: let the trainer read the module's own ``train_dataloader``; the module only needs the data returned,
            and sets them up itself.

    Returns:
        The :class:`SearchData` that the trainer was given, or the adapted data that are now ``trainer.datamodule``.

    Raises:
        DataError: no data, or data that a search cannot use; says what to pass.
    """
    try:
        loop, connect = trainer.fit_loop, trainer._data_connector.attach_data
        train, val = loop._data_source.instance, loop.epoch_loop.val_loop._data_source.instance
    except AttributeError as missing:
        raise DataError(
            f"Lightning {version('pytorch_lightning')} has no way to replace the data of a fit ({missing}); pass "
            "datamodule=ln.as_search_data(data, seed) to Trainer.fit"
        ) from None
    module = trainer.lightning_module
    data = train if isinstance(train, SearchData) else as_search_data(_given(train, val, module), seed)
    if own_loader:
        connect(module)
    elif data is not train:
        connect(module, datamodule=data)
    return data


def _given(train: Any, val: Any, module: pl.LightningModule) -> Any:
    """What was passed to ``fit``: a LightningDataModule, a training loader, or (training, validation) loaders."""
    if train is None or train is module:
        raise DataError(
            "fit() was given no data; pass datamodule=... (a LightningDataModule or a data set of this library) or "
            "train_dataloaders=DataLoader(...)"
        )
    if isinstance(train, pl.LightningDataModule):
        return train
    if isinstance(train, (list, tuple)) and len(train) != 1:
        raise DataError(
            f"train_dataloaders is {described(train)}; a search reads one DataLoader, which it divides itself"
        )
    return train if val is None or val is module else (train, val)
