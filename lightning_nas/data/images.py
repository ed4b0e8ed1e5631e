"""Data sets that lie in memory: scikit-learn's digits, and numpy files."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from lightning_nas.data.checks import as_images, as_labels
from lightning_nas.data.pictures import ArrayData
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_LIMIT = 16 * 2**30


class Digits(ArrayData):
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


class Npz(ArrayData):
    """Images in a numpy file: ``x_train``, ``y_train`` and, if there is a test part, ``x_test``, ``y_test``.

    Images are square, (N, H, W) or (N, H, W, C), uint8 or floating point; labels (N,) count classes from 0. The file is
    not trusted: pickled objects are refused.

    Args:
        path: the file.
        options: of :class:`~lightning_nas.data.pictures.ArrayData`.
    """

    def __init__(self, *, path: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def load(self) -> Images:
        if self.path is None:
            raise DataError("dataset=npz needs dataset.path=FILE, a numpy file with x_train, y_train, x_test, y_test")
        arrays, where = _read(Path(self.path)), shown(self.path)
        missing = [key for key in _KEYS if key not in arrays]
        if missing and missing != ["x_test", "y_test"]:
            raise DataError(f"{where} lacks {', '.join(missing)}; it must have {', '.join(_KEYS)}, or the first two")
        parts = {}
        for part in ("train", "test"):
            if f"x_{part}" in arrays:
                images = as_images(arrays[f"x_{part}"], f"x_{part} of {where}")
                parts[part] = Arrays(images, as_labels(arrays[f"y_{part}"], len(images), f"y_{part} of {where}"))
        shapes = [tuple(part.images.shape[1:]) for part in parts.values()]
        if shapes[0] != shapes[-1]:
            raise DataError(f"{where}: training images are {shapes[0]}, test images {shapes[1]} (channels, size, size)")
        return Images(**parts)


def _read(path: Path) -> dict[str, Any]:
    """The arrays of our keys that the file has."""
    where = shown(str(path))
    if not path.is_file():
        raise DataError(f"there is no file {where}; pass dataset.path=FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _KEYS if key in file} if size <= _LIMIT else {}
    except zipfile.BadZipFile:
        raise DataError(f"{where} is not a numpy .npz file, or only a piece of one") from None
    except Exception as reason:  # noqa: BLE001 - numpy lets through whatever its parsers meet in a damaged file
        if "allow_pickle" in str(reason):
            raise DataError(f"{where} is refused: it holds pickled objects, which may be code, not numbers") from None
        raise DataError(f"cannot read {where}: {shown(str(reason))}") from None
    if size > _LIMIT:
        raise DataError(f"{where} unpacks to {size} bytes, more than the {_LIMIT} that are read")
    if strange := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise DataError(f"{where}: {strange[0]} is not a numpy array")
    return arrays
