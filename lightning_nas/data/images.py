"""Data sets that lie in memory: scikit-learn's digits, and numpy files."""

from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import as_images, as_labels, check_same_shape
from lightning_nas.data.numpy_file import read_npz
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_LIMIT = 16 * 2**30


class Digits(InMemoryImages):
    """1,797 handwritten digits, 8 x 8 pixels in 17 greys, 10 classes, from scikit-learn; nothing is downloaded.

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).

    Example:
        >>> data = Digits(flip=False)
        >>> data.setup()
        >>> data.shape, data.num_classes, sum(data.sizes.values())
        ((1, 8, 8), 10, 1797)
    """

    def load(self) -> Images:
        pixels, labels = load_digits(return_X_y=True)
        grey = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8)
        return Images(train=Arrays(grey.reshape(-1, 1, 8, 8), torch.from_numpy(labels).long()))


class NPZ(InMemoryImages):
    """Images in a numpy file: ``x_train``, ``y_train`` and, if there is a test part, ``x_test``, ``y_test``.

    Images are square, (N, H, W) or (N, H, W, C), uint8 or floating point; labels (N,) count classes from 0. The file is
    not trusted: pickled objects are refused.

    Args:
        path: the file.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.
    """

    def __init__(self, *, path: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def load(self) -> Images:
        if self.path is None:
            raise DataError("dataset=npz needs dataset.path=FILE, a numpy file with x_train, y_train, x_test, y_test")
        arrays = read_npz(Path(self.path), _KEYS, option="dataset.path", limit=_LIMIT)
        where = shown(Path(self.path))
        missing = [key for key in _KEYS if key not in arrays]
        if missing and missing != ["x_test", "y_test"]:
            raise DataError(f"{where} lacks {', '.join(missing)}; it must have {', '.join(_KEYS)}, or the first two")
        parts = {}
        for part in ("train", "test"):
            if f"x_{part}" in arrays:
                images = as_images(arrays[f"x_{part}"], f"x_{part} of {where}")
                parts[part] = Arrays(images, as_labels(arrays[f"y_{part}"], len(images), f"y_{part} of {where}"))
        check_same_shape(parts, where)
        return Images(**parts)
