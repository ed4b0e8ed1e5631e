"""Checks of images and labels, and their conversion to tensors."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_nas.data.options import option
from lightning_nas.data.samples import Arrays, piece_length, pieces, pixels
from lightning_nas.errors import DataError, shown

Numbers = np.ndarray[Any, Any] | Tensor
"""A numpy array or a tensor."""

_MOST_CHANNELS = 16
_MOST_COLOURS = 4
_LEAST = 1e-30  # pixels below that lose their digits in float32
_UNLIKE = 8.0  # ratio of two spreads, or distance of two means in spreads
_ONE_HOT = (
    "(N,); of one-hot rows take y.argmax(1); several labels per image, 0 or 1 for each, need task=multilabel, several "
    "numbers task=regression"
)


def as_images(x: Numbers, where: str) -> Tensor:
    """Images as a tensor (N, C, H, W) of their own type, on the same memory wherever that is possible.

    Args:
        x: numpy array (N, H, W) or (N, H, W, C), or tensor (N, H, W) or (N, C, H, W); uint8, uint16, bool or floating
            point. The type alone decides where the channels are: last in arrays, first in tensors.
        where: the beginning of the message, e.g. "x_train of 'data.npz'".

    Raises:
        DataError: another shape or type, no images, or a pixel that is not a finite number.
    """
    given, tensors = type_of(x), isinstance(x, Tensor)
    layout = "arrays are (N, H, W) or (N, H, W, C), channels last"
    if tensors:
        layout = "tensors are (N, H, W) or (N, C, H, W), channels first"
    if not given.startswith(("float", "bfloat")) and given not in ("uint8", "uint16", "bool"):
        raise DataError(
            f"{where} has the type {shown(given)}; legal are uint8 (0 to 255), uint16 (0 to 65,535), bool and "
            "floating point"
        )
    shape = tuple(x.shape)
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        raise DataError(f"{where} has the shape {shape}; legal are images: {layout}")
    height, width = shape[-2:] if tensors else shape[1:3]
    channels = 1 if len(shape) == 3 else shape[1] if tensors else shape[3]
    if channels > (_MOST_CHANNELS if height == width else _MOST_COLOURS):  # else the channels may stand elsewhere
        raise DataError(
            f"{where} has the shape {shape}; legal are square images of at most {_MOST_CHANNELS} channels, others "
            f"of at most {_MOST_COLOURS}: {layout}"
        )
    if not shape[0]:
        raise DataError(f"{where} has no images")
    images = x.detach().cpu() if isinstance(x, Tensor) else _tensor(x)
    if images.ndim == 3:
        images = images[:, None]
    elif not tensors:
        images = images.permute(0, 3, 1, 2)
    if images.is_floating_point():
        _check_floats(images, where)
    return images


def check_pixels(named: str, pixels: int, most: int, sides: Sequence[int]) -> None:
    """Refuse an augmentation by more pixels than the images leave to it.

    Args:
        named: the option with its value.
        pixels: its value.
        most: the largest legal one.
        sides: height and width of the images, for the message.

    Raises:
        DataError: names the option, the size of the images and what is legal.

    Example:
        >>> check_pixels("retrain.cutout=99", 99, 8, (8, 8))
        Traceback (most recent call last):
        lightning_nas.errors.DataError: retrain.cutout=99: the images are 8x8; legal: 0 to 8
    """
    if pixels > most:
        height, width = sides
        raise DataError(f"{named}: the images are {height}x{width}; legal: 0 to {most}")


def type_of(x: Numbers) -> str:
    """The name of the type of an array's or tensor's numbers, whatever their byte order.

    >>> type_of(np.zeros(1, ">u2")), type_of(torch.zeros(1))
    ('uint16', 'float32')
    """
    return str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else x.dtype.name


def _tensor(x: np.ndarray[Any, Any]) -> Tensor:
    """An array as a tensor on its memory; copied where torch knows no such type or steps, or images are scattered."""
    native = x.dtype.newbyteorder("=")
    wanted = np.dtype(np.float64) if native.kind == "f" and native.itemsize > 8 else native
    if x.dtype != wanted or max(x.strides) != x.strides[0]:
        x = np.ascontiguousarray(x, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an array that may not be written to: nothing here does
        try:
            return torch.from_numpy(x)
        except ValueError:
            return torch.from_numpy(np.ascontiguousarray(x))


def _check_floats(images: Tensor, where: str) -> None:
    """Refuse pixels that are not finite numbers as float32, or too small for it."""
    largest = 0.0
    for number, piece in enumerate(pieces(images)):
        finite = pixels(piece).isfinite()
        if not finite.all():
            first = int((~finite).flatten(1).any(1).nonzero()[0]) + number * piece_length(images[0].numel())
            raise DataError(f"{where} has a pixel that is NaN or infinite, first in image {first}")
        largest = max(largest, float(piece.double().abs().max()))
    if 0 < largest < _LEAST:
        raise DataError(f"{where} has no pixel above {largest:.3g}, too little for float32; multiply all by one number")


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
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{where} has the shape {y.shape}; labels must be one number per image, {_ONE_HOT}")
    if y.dtype.kind not in "iu":
        raise DataError(f"{where} has the type {shown(str(y.dtype))}; labels must be integers{_hint(y.dtype.kind)}")
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
    classes = " that count the classes; of classes take y.astype(int), numbers need task=regression"
    return classes if kind == "f" else ""


def check_same_shape(parts: Mapping[str, Arrays], where: str) -> None:
    """Images for training and test have one shape.

    Raises:
        DataError: they have not.
    """
    shapes = {tuple(part.images.shape[1:]): name for name, part in parts.items()}
    if len(shapes) > 1:
        (first, one), (second, other) = shapes.items()
        raise DataError(f"{where}: {one} images are {first}, {other} images {second} (channels, height, width)")


def check_same_type(arrays: Mapping[str, Numbers], where: str) -> None:
    """Images for training and test have pixels of one scale: all floating point, or all of one type of integers.

    Raises:
        DataError: they have not.
    """
    types = {name: type_of(x) for name, x in arrays.items()}
    if len({"floating point" if "float" in name else name for name in types.values()}) > 1:
        listed = ", ".join(f"{name} is {shown(given)}" for name, given in types.items())
        raise DataError(f"{where}: {listed}; integers and floats differ in scale, give all images one type")


def doubts_of(parts: Mapping[str, Tensor]) -> Iterator[str]:
    """What is doubtful about images as a network gets them: constant images, and parts of unlike range.

    Args:
        parts: images (N, C, H, W) of the part "retrain" and of others, by name.

    Example:
        >>> list(doubts_of({"retrain": torch.linspace(-2, 2, 64).reshape(4, 1, 4, 4), "test": torch.zeros(1, 1, 4, 4)}))
        ['the test images have one value everywhere, 0 as networks get it']
    """
    named = {"the training images" if name == "retrain" else f"the {name} images": x for name, x in parts.items()}
    for name, images in named.items():
        if images.amax() == images.amin():
            yield f"{name} have one value everywhere, {float(images.amax()):.3g} as networks get it"
        elif len(images) > 1 and bool((images == images[:1]).all()):
            yield f"{name} are all alike"
        elif flat := [c for c, channel in enumerate(images.unbind(1)) if channel.amax() == channel.amin()]:
            yield f"channel {flat[0]} of {name} has one value everywhere"
    mean, std = _moments(parts["retrain"])
    if std and (abs(mean) > 10 or not 0.02 < std < 20):
        yield (
            f"the training images have mean {mean:.3g} and standard deviation {std:.3g} as networks get them, where 0 "
            "and 1 are usual; scale them"
        )
    for name, images in named.items():
        other_mean, other_std = _moments(images)
        alike = std / _UNLIKE <= other_std <= _UNLIKE * std and abs(other_mean - mean) <= _UNLIKE * std
        if std and other_std and not alike:
            yield (
                f"{name} are unlike the training images: mean {other_mean:.3g} and standard deviation {other_std:.3g} "
                f"as networks get them, against {mean:.3g} and {std:.3g}"
            )


def _moments(images: Tensor) -> tuple[float, float]:
    values = images.double()
    return float(values.mean()), float(values.std(correction=0))


def count_classes(labels: dict[str, Tensor], given: int | None, named: int = 0) -> int:
    """Number of classes of a data set.

    Args:
        labels: labels from 0 on, by part; every class must occur in "train".
        given: the number of classes that the user gave; then classes may be missing in "train".
        named: the number of classes that have names.

    Raises:
        DataError: a part without images; only one class; another number than given; a class without training image.
    """
    if empty := [name for name, part in labels.items() if not len(part)]:
        without = "; without such a part it is taken from the training images" if empty[0] != "train" else ""
        raise DataError(f"the {empty[0]} part of the data set has no images{without}")
    present = torch.unique(labels["train"]).tolist()
    found = max(named, *(int(part.max()) + 1 for part in labels.values()))
    if given is not None and found != given:
        raise DataError(
            f"the labels run from 0 to {found - 1}, that is {found} classes, but {option('num_classes')} is {given}"
        )
    if len(present) < 2:
        raise DataError(f"all training images are of one class ({present[0]}); a search needs at least two")
    if given is None and len(present) < found:
        missing = next(label for label, has in enumerate([*present, -1]) if label != has)
        instead = f"if that is intended, set {option('num_classes', str(found))}"
        if found > len(labels["train"]):
            instead = "number the classes from 0 on, e.g. by sorted(set(labels)).index(label)"
        raise DataError(f"the labels go up to {found - 1}, but class {missing} has no training image; {instead}")
    return found


def size_found(shape: Sequence[int]) -> int | list[int]:
    """The ``image_size`` of images (C, H, W): a number for square ones, else [height, width].

    >>> size_found((3, 8, 8)), size_found((3, 6, 8))
    (8, [6, 8])
    """
    _, height, width = shape
    return height if height == width else [height, width]


def check_shape(
    shape: tuple[int, ...], image_size: int | Sequence[int] | None, channels: int | None
) -> tuple[int, int, int]:
    """Compare the shape (C, H, W) of an image with the sizes that the user gave, and return it.

    Raises:
        DataError: not an image, or another size or number of channels than given.
    """
    if len(shape) != 3 or (shape[0] > _MOST_COLOURS and shape[1] != shape[2]):  # then the channels may stand last
        many = f", at most {_MOST_COLOURS} channels where height and width differ" if len(shape) == 3 else ""
        last = "; image.permute(2, 0, 1) puts the channels first" if len(shape) == 3 and shape[2] in (1, 3, 4) else ""
        raise DataError(f"the images have the shape {shape}; legal is (channels, height, width){many}{last}")
    for key, given, found in (("image_size", image_size, size_found(shape)), ("channels", channels, shape[0])):
        if given is not None and (list(given) if isinstance(given, Sequence) else given) != found:
            raise DataError(f"the images have the shape {shape}, that is {key} {found}, but {option(key)} is {given}")
    return shape[0], shape[1], shape[2]
