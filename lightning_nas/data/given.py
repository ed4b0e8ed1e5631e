"""Whatever a person has as data, made into data for a search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_nas.data.adapt import AdaptedData, Loaders
from lightning_nas.data.arrays import ArrayData
from lightning_nas.data.base import SearchData
from lightning_nas.errors import DataError, shown

FORMS = (
    "legal are a data set of this library (e.g. ln.Digits()), a LightningDataModule, a DataLoader, loaders "
    "(train, val) or (train, val, test), and arrays or tensors (x_train, y_train) or (x_train, y_train, x_test, y_test)"
)


def as_search_data(data: Any, seed: int = 0, **options: Any) -> SearchData:
    """Make data for a search of whatever a person has.

    Args:
        data: a :class:`SearchData`, which is returned as it is; a LightningDataModule; a DataLoader, or two or three
            of them (train, validation, test); two or four numpy arrays or tensors ``(x_train, y_train[, x_test,
            y_test])``.
        seed: of the division, the order and the augmentation.
        options: of :class:`~lightning_nas.data.adapt.AdaptedData` for modules and loaders, of
            :class:`~lightning_nas.data.arrays.ArrayData` for arrays, e.g. ``batch_size=32``.

    Returns:
        Data that are not set up yet: call ``setup()``, or leave it to Lightning.

    Raises:
        DataError: anything else, or options for a :class:`SearchData`, which has its own.

    Example:
        >>> import torch
        >>> x, y = torch.rand(100, 1, 8, 8), torch.arange(100) % 4
        >>> data = as_search_data((x, y), seed=1, batch_size=8)
        >>> data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((1, 8, 8), 4, {'weights': 56, 'arch': 14, 'val': 10, 'test': 20})
    """
    if isinstance(data, SearchData):
        if options:
            raise DataError(f"{type(data).__name__} has its own {', '.join(options)}; pass them to its constructor")
        return data
    if isinstance(data, pl.LightningDataModule):
        return AdaptedData(data, seed=seed, **options)
    parts = list(data) if isinstance(data, (tuple, list)) else [data]
    if len(parts) in (2, 4) and all(isinstance(part, (np.ndarray, Tensor)) for part in parts):
        return ArrayData(*parts, seed=seed, **options)
    first, *others = [_only(part) for part in parts] or [None]
    if isinstance(first, DataLoader) and len(others) <= 2 and all(isinstance(other, DataLoader) for other in others):
        return AdaptedData(Loaders(first, *others), seed=seed, **options)
    raise DataError(f"{_described(data)} cannot be searched on; {FORMS}")


def _only(part: Any) -> Any:
    """The loader in a list of one, as Lightning allows for validation; anything else as it is."""
    return part[0] if isinstance(part, (tuple, list)) and len(part) == 1 else part


def _described(data: Any) -> str:
    if isinstance(data, (tuple, list)):
        return f"a {type(data).__name__} of {shown(', '.join(type(part).__name__ for part in data) or 'nothing')}"
    return f"data of the type {shown(type(data).__name__)}"
