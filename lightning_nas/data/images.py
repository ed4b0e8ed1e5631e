"""Images from scikit-learn and from numpy files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Unpack

import torch
from pydantic import NonNegativeInt, PositiveInt
from sklearn.datasets import load_digits

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import as_images, check_same_shape, check_same_type
from lightning_nas.data.masks import with_targets
from lightning_nas.data.numpy_file import read_npz
from lightning_nas.data.options import ArrayOptions, KnownOptions, option
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown
from lightning_nas.processes import machine_memory
from lightning_nas.ranges import Side, Targets, Width

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_INSTEAD = (
    ", the memory of this machine: store pixels as uint8, give fewer or smaller images, or a folder of image files, "
    "which are read one by one"
)


class Digits(InMemoryImages):
    """1,797 handwritten digits of 8 x 8 pixels in 17 greys, 10 classes, from scikit-learn; nothing is downloaded.

    Batches are ``(x, y)``: x float32 (N, 1, 8, 8) with mean 0 and standard deviation 1 over the training images, y
    int64 (N,) from 0 to 9.

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).

    Args:
        crop_padding: pad training images by this many black pixels on each side and crop a random window.
        flip: mirror training images; a mirrored digit is no digit.
        image_size: height and width, for the configuration; no other value fits.
        channels: number of channels, likewise.
        num_classes: number of classes, likewise.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Raises:
        DataError: in ``setup``, if a part is too small for the batch size or an option does not fit the images.

    Example:
        >>> data = Digits(batch_size=32)
        >>> data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((1, 8, 8), 10, {'weights': 1006, 'arch': 252, 'val': 180, 'test': 359})
        >>> x, y = next(iter(data.test_dataloader()))
        >>> x.shape, x.dtype, y.dtype
        (torch.Size([32, 1, 8, 8]), torch.float32, torch.int64)
    """

    def __init__(
        self,
        *,
        crop_padding: NonNegativeInt = 1,
        flip: bool = False,
        image_size: Side | None = 8,
        channels: Width | None = 1,
        num_classes: PositiveInt | None = 10,
        **options: Unpack[KnownOptions],
    ) -> None:
        super().__init__(
            crop_padding=crop_padding,
            flip=flip,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            **options,
        )

    def load(self) -> Images:
        pixels, labels = load_digits(return_X_y=True)
        grey = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8)
        return Images(train=Arrays(grey.reshape(-1, 1, 8, 8), torch.from_numpy(labels).long()))


class NPZ(InMemoryImages):
    """Images in a numpy file with the arrays ``x_train``, ``y_train`` and optionally ``x_test``, ``y_test``.

    Images are (N, H, W) or (N, H, W, C) with at most 16 channels (4 if not square): uint8 or uint16, divided by their
    largest value, or bool or floating point (used as float32). They are kept in memory in the type that they are stored
    in. Training and test images have one type. Labels are integers, (N,) or (N, 1), and count the classes from 0; for
    ``task=regression`` they are numbers (N,) or (N, T), for ``task=multilabel`` 0 or 1 (N, T), for
    ``task=segmentation`` a class for each pixel (N, H, W), 255 for none. Pickled objects in the file are refused.

    Batches are ``(x, y)``: x float32 (N, C, H, W) with mean 0 and standard deviation 1 by channel over the training
    images, y int64 (N,) or (N, H, W), or float32 (N, T); see :class:`~lightning_nas.data.module.ImageData`.

    Args:
        path: the file.
        flip: mirror training images left to right with probability 1/2.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Raises:
        DataError: in ``setup``, if the file is missing, damaged or too large for the memory, or its arrays are not as
            above.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> x = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/images.npz", x_train=x, y_train=np.arange(100) % 4)
        ...     data = NPZ(path=f"{folder}/images.npz", batch_size=8)
        ...     data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((3, 8, 8), 4, {'weights': 56, 'arch': 14, 'val': 10, 'test': 20})
    """

    offers: ClassVar[tuple[Targets, ...] | None] = ("classes", "numbers", "labels", "masks")

    def __init__(self, *, path: str | None = None, flip: bool = False, **options: Unpack[ArrayOptions]) -> None:
        super().__init__(flip=flip, **options)
        self.path = path

    def load(self) -> Images:
        if self.path is None:
            raise DataError(f"a numpy file with {', '.join(_KEYS)} is needed: {option('path', 'FILE')}")
        file, named = Path(self.path).expanduser(), option("path", "FILE")
        arrays = read_npz(file, _KEYS, named=named, limit=machine_memory(), instead=_INSTEAD)
        where = shown(Path(self.path))
        missing = [key for key in _KEYS if key not in arrays]
        if missing and missing != ["x_test", "y_test"]:
            raise DataError(f"{where} lacks {', '.join(missing)}; it must have {', '.join(_KEYS)}, or the first two")
        parts = {}
        for part in ("train", "test"):
            if f"x_{part}" in arrays:
                images = as_images(arrays[f"x_{part}"], f"x_{part} of {where}")
                parts[part] = with_targets(images, arrays[f"y_{part}"], f"y_{part} of {where}", self.targets)
        check_same_type({key: x for key, x in arrays.items() if key.startswith("x_")}, where)
        check_same_shape(parts, where)
        return Images(**parts)
