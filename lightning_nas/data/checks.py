"""Checks of images and labels, and their conversion to tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_nas.data.options import option
from lightning_nas.data.samples import Arrays
from lightning_nas.errors import DataError, shown

Numbers = np.ndarray[Any, Any] | Tensor
"""A numpy array or a tensor."""

_MOST_CHANNELS = 16
_ONE_HOT = "(N,); of one-hot rows take y.argmax(1), several labels per image are not supported"


def as_images(x: Numbers, where: str) -> Tensor:
    """Images as a tensor (N, C, H, W), uint8 or float32.

    Args:
        x: numpy array (N, H, W) or (N, H, W, C), or tensor (N, H, W) or (N, C, H, W); uint8 or floating point; square.
            The type alone decides where the channels are: last in arrays, first in tensors.
        where: the beginning of the message, e.g. "x_train of 'data.npz'".

    Raises:
        DataError: another shape or type, no images, or a pixel that is not a finite number.
    """
    layout = "arrays are (N, H, W) or (N, H, W, C), channels last"
    if isinstance(x, Tensor):
        layout = "tensors are (N, H, W) or (N, C, H, W), channels first"
        x = _numpy(x.permute(0, 2, 3, 1) if x.ndim == 4 else x)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(f"{where} has the type {shown(str(x.dtype))}; legal are uint8 and floating point")
    if x.ndim not in (3, 4) or 0 in x.shape[1:]:
        raise DataError(f"{where} has the shape {x.shape}; legal are square images: {layout}")
    if x.shape[1] != x.shape[2] or x.shape[3:] > (_MOST_CHANNELS,):
        seen = x.shape if layout.startswith("arrays") or x.ndim == 3 else (x.shape[0], x.shape[3], *x.shape[1:3])
        raise DataError(
            f"{where} has the shape {seen}; legal are square images of at most {_MOST_CHANNELS} channels: {layout}"
        )
    if not len(x):
        raise DataError(f"{where} has no images")
    images = torch.from_numpy(np.require(x, np.uint8 if x.dtype == np.uint8 else np.float32, ["C", "W"]))
    if images.is_floating_point() and not images.isfinite().all():
        first = int((~images.isfinite()).flatten(1).any(1).nonzero()[0])
        raise DataError(f"{where} has a pixel that is NaN or infinite, first in image {first}")
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def as_labels(y: Numbers, length: int, where: str) -> Tensor:
    """Labels as a tensor (N,), int64.

    Args:
        y: array or tensor of integers, (N,) or (N, 1).
        length: number of images.
        where: the beginning of the message, e.g. "y_train of 'data.npz'".

    Raises:
        DataError: another number than of images, another shape, or a label that is no integer from 0 on.
    """
    if isinstance(y, Tensor):
        y = _numpy(y)
    if y.dtype.kind not in "iu":
        raise DataError(f"{where} has the type {shown(str(y.dtype))}; labels must be integers{_hint(y.dtype.kind)}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{where} has the shape {y.shape}; labels must be one number per image, {_ONE_HOT}")
    if len(y) != length:
        raise DataError(f"{where} has {len(y)} labels for {length} images")
    if length and (int(y.min()) < 0 or int(y.max()) >= 2**31):
        raise DataError(f"{where} has labels from {y.min()} to {y.max()}; they must count the classes from 0 on")
    return torch.from_numpy(y.astype(np.int64))


def _numpy(x: Tensor) -> np.ndarray[Any, Any]:
    x = x.detach().cpu()
    array: np.ndarray[Any, Any] = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return array


def _hint(kind: str) -> str:
    if kind in "USO":
        return "; number the classes, e.g. with np.unique(y, return_inverse=True)[1]"
    return " that count the classes; regression is not supported" if kind == "f" else ""


def check_same_shape(parts: Mapping[str, Arrays], where: str) -> None:
    """Images for training and test have one shape.

    Raises:
        DataError: they have not.
    """
    shapes = {tuple(part.images.shape[1:]): name for name, part in parts.items()}
    if len(shapes) > 1:
        (first, one), (second, other) = shapes.items()
        raise DataError(f"{where}: {one} images are {first}, {other} images {second} (channels, size, size)")


def count_classes(labels: dict[str, Tensor], given: int | None) -> int:
    """Number of classes of a data set.

    Args:
        labels: labels from 0 on, by part; every class must occur in "train".
        given: the number of classes that the user gave; then classes may be missing in "train".

    Raises:
        DataError: a part without images; only one class; another number than given; a class without training image.
    """
    if empty := [name for name, part in labels.items() if not len(part)]:
        raise DataError(f"the {empty[0]} part of the data set has no images")
    present = torch.unique(labels["train"]).tolist()
    found = max(int(part.max()) for part in labels.values()) + 1
    if given is not None and found != given:
        raise DataError(
            f"the labels run from 0 to {found - 1}, that is {found} classes, but {option('num_classes')} is {given}"
        )
    if len(present) < 2:
        raise DataError(f"all training images are of one class ({present[0]}); a search needs at least two")
    if given is None and len(present) < found:
        missing = next(label for label, has in enumerate([*present, -1]) if label != has)
        raise DataError(
            f"the labels go up to {found - 1}, but class {missing} has no training image; if that is intended, set "
            f"{option('num_classes', str(found))}"
        )
    return found


def check_shape(shape: tuple[int, ...], image_size: int | None, channels: int | None) -> tuple[int, int, int]:
    """Compare the shape (C, H, W) of an image with the sizes that the user gave, and return it.

    Raises:
        DataError: not a square image, or another size or number of channels than given.
    """
    if len(shape) != 3 or shape[1] != shape[2]:
        raise DataError(f"the images have the shape {shape}; legal is (channels, size, size)")
    for key, given, found in (("image_size", image_size, shape[1]), ("channels", channels, shape[0])):
        if given is not None and given != found:
            raise DataError(f"the images have the shape {shape}, that is {key} {found}, but {option(key)} is {given}")
    return shape[0], shape[1], shape[2]
