"""Options that data sets share, and how error messages name them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Literal, TypeAlias, TypedDict

from annotated_types import Interval
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from lightning_nas.ranges import BatchSize, Finite, Seed, Side, Width, Workers

Share = Annotated[float, Interval(gt=0, lt=1)]
"""A share of the samples, above 0 and below 1."""

ShareOrNone = Annotated[float, Interval(ge=0, lt=1)]
"""A share of the samples; 0 for no such part."""

ShareOrAll = Annotated[float, Interval(gt=0, le=1)]
"""A share above 0; 1 for all."""


class DivisionOptions(TypedDict, total=False):
    """How a data set is divided, see :class:`~lightning_nas.data.module.ImageData`."""

    arch_fraction: ShareOrNone
    val_fraction: Share
    test_fraction: Share
    seed: Seed
    search_classes: PositiveInt | None
    search_fraction: ShareOrAll
    balanced: bool


ImageSize: TypeAlias = Side | tuple[Side, Side]
"""Height and width of square images, or (height, width)."""


class SizeOptions(TypedDict, total=False):
    """Sizes of the images, see :class:`~lightning_nas.data.module.ImageData`."""

    image_size: ImageSize | None
    channels: Width | None
    num_classes: PositiveInt | None


class BatchOptions(TypedDict, total=False):
    """How batches are made, see :class:`~lightning_nas.data.module.ImageData`."""

    batch_size: BatchSize
    num_workers: Workers


class PixelOptions(TypedDict, total=False):
    """Cutout and normalisation, see :class:`~lightning_nas.data.augmented.AugmentedImages`."""

    cutout: NonNegativeInt
    mean: Sequence[Finite] | None
    std: Sequence[PositiveFloat] | None


class FlipOptions(TypedDict, total=False):
    """Flips, see :class:`~lightning_nas.data.augmented.AugmentedImages`."""

    flip: bool


class CropOptions(TypedDict, total=False):
    """Random crops, see :class:`~lightning_nas.data.augmented.InMemoryImages`."""

    crop_padding: NonNegativeInt


class DownloadOptions(TypedDict, total=False):
    """Where files are, see :class:`~lightning_nas.data.vision.TorchvisionData`."""

    root: str | None
    download: bool


class ImageOptions(DivisionOptions, SizeOptions, BatchOptions, total=False):
    """Options of every data set of images."""


class AdaptedOptions(DivisionOptions, SizeOptions, total=False):
    """Options of a person's own data."""


class AugmentedOptions(ImageOptions, PixelOptions, FlipOptions, total=False):
    """Options of images that are augmented."""


class ArrayOptions(ImageOptions, PixelOptions, CropOptions, total=False):
    """Options of images in memory, except flips."""


class KnownOptions(DivisionOptions, BatchOptions, PixelOptions, total=False):
    """Options of images of known sizes, except flips and crops."""


class TorchvisionOptions(DivisionOptions, SizeOptions, PixelOptions, FlipOptions, CropOptions, total=False):
    """Options of data sets of torchvision, except how batches are made and where files are."""


class DownloadedOptions(KnownOptions, FlipOptions, DownloadOptions, total=False):
    """Options of data sets of torchvision of known sizes, except crops."""


class FolderOptions(DivisionOptions, PixelOptions, total=False):
    """Options of images in folders, except sizes and how batches are made."""

    batch_size: BatchSize
    num_classes: PositiveInt | None


class ImageNetOptions(TypedDict, total=False):
    """Options of ImageNet, except those with defaults of its own."""

    root: str | None
    channels: Literal[1, 3]
    skip_unreadable: bool
    cutout: NonNegativeInt
    arch_fraction: ShareOrNone
    test_fraction: Share
    seed: Seed
    search_classes: PositiveInt | None
    search_fraction: ShareOrAll
    balanced: bool


class LoadingOptions(TypedDict, total=False):
    """Options of :class:`~lightning_nas.data.loaders.Loader` that change the speed and nothing else."""

    num_workers: int
    pin_memory: bool | None
    persistent_workers: bool


_OWN: ContextVar[bool] = ContextVar("own", default=False)


@contextmanager
def own_data() -> Iterator[None]:
    """Name options as a person's own data have them, which no key of the command line sets."""
    token = _OWN.set(True)
    try:
        yield
    finally:
        _OWN.reset(token)


def option(name: str, value: str = "") -> str:
    """An option as an error message names it, for readers in Python and at the command line.

    >>> option("batch_size")
    'batch_size (dataset.batch_size on the command line)'
    >>> option("root", "FOLDER")
    'root=FOLDER (dataset.root=FOLDER on the command line)'
    >>> with own_data():
    ...     option("batch_size")
    'batch_size (of your DataLoader, or as_search_data(data, batch_size=...) in Python)'
    """
    said = f"{name}={value}" if value else name
    if _OWN.get():
        loader = "of your DataLoader, or " if name in ("batch_size", "num_workers") else ""
        return f"{said} ({loader}as_search_data(data, {name}=...) in Python)"
    return f"{said} (dataset.{said} on the command line)"
