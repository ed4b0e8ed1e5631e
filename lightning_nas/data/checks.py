"""What makes labels and images unusable, each said in one line."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_nas.errors import DataError, shown

_MOST_CHANNELS = 16


def as_images(x: np.ndarray[Any, Any], where: str) -> Tensor:
    """Images of a file as (n, C, H, W), uint8 or float32.

    Args:
        x: (n, H, W) or (n, H, W, C), uint8 or floating point, square.
        where: opens the message, e.g. the file and its key.

    Raises:
        DataError: another shape or type, no images, or a pixel that is not a finite number.
    """
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(f"{where} has the type {shown(str(x.dtype))}; legal are uint8 and floating point")
    if x.ndim not in (3, 4) or 0 in x.shape[1:] or x.shape[1] != x.shape[2] or x.shape[3:] > (_MOST_CHANNELS,):
        raise DataError(
            f"{where} has the shape {x.shape}; legal are square images (N, H, W) or (N, H, W, C), channels last"
        )
    if not len(x):
        raise DataError(f"{where} has no images")
    images = torch.from_numpy(x if x.dtype == np.uint8 else x.astype(np.float32))
    if images.is_floating_point() and not images.isfinite().all():
        first = int((~images.isfinite()).flatten(1).any(1).nonzero()[0])
        raise DataError(f"{where} has a pixel that is NaN or infinite, first in image {first}")
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def as_labels(y: np.ndarray[Any, Any], length: int, where: str) -> Tensor:
    """Labels of a file as (n,) int64.

    Raises:
        DataError: another number than of images, another shape, or a label that is no integer from 0 on.
    """
    if y.dtype.kind not in "iu":
        raise DataError(f"{where} has the type {shown(str(y.dtype))}; labels must be integers")
    if y.ndim != 1:
        raise DataError(f"{where} has the shape {y.shape}; labels must be one number per image")
    if len(y) != length:
        raise DataError(f"{where} has {len(y)} labels for {length} images")
    if length and (int(y.min()) < 0 or int(y.max()) >= 2**31):
        raise DataError(f"{where} has labels from {y.min()} to {y.max()}; they must count the classes from 0 on")
    return torch.from_numpy(y.astype(np.int64))


def count_classes(labels: dict[str, Tensor], given: int | None) -> int:
    """The number of classes of a data set.

    Args:
        labels: none negative, by part; all classes must occur in "train".
        given: the number the user says there are; then some may be missing.

    Raises:
        DataError: a part without images; one class only; not the given number; a class without training image.
    """
    if empty := [name for name, part in labels.items() if not len(part)]:
        raise DataError(f"the {empty[0]} part of the data set has no images")
    present = torch.unique(labels["train"]).tolist()
    found = max(int(part.max()) for part in labels.values()) + 1
    if given is not None and found != given:
        raise DataError(
            f"the labels run from 0 to {found - 1}, that is {found} classes, but dataset.num_classes is {given}"
        )
    if len(present) < 2:
        raise DataError(f"all training images are of one class ({present[0]}); a search needs at least two")
    if given is None and len(present) < found:
        missing = next(label for label, has in enumerate([*present, -1]) if label != has)
        raise DataError(
            f"the labels go up to {found - 1}, but class {missing} has no training image; if that is meant, say "
            f"dataset.num_classes={found}"
        )
    return found


def check_shape(shape: tuple[int, ...], image_size: int | None, channels: int | None) -> tuple[int, int, int]:
    """Compare the shape (C, H, W) of an image with what the user says it is, and return it.

    Raises:
        DataError: not a square image, or another size or number of channels than given.
    """
    if len(shape) != 3 or shape[1] != shape[2]:
        raise DataError(f"the images have the shape {shape}; legal is (channels, size, size)")
    for key, given, found in (("image_size", image_size, shape[1]), ("channels", channels, shape[0])):
        if given is not None and given != found:
            raise DataError(f"the images have the shape {shape}, that is {key} {found}, but dataset.{key} is {given}")
    return shape[0], shape[1], shape[2]
