"""Data sets of torchvision that fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from torchvision import datasets

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import as_images, as_labels
from lightning_nas.data.options import DownloadedOptions, TorchvisionOptions, option
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import BatchSize, Side, Width, Workers


class TorchvisionData(InMemoryImages):
    """A data set that torchvision can download and that has a training and a test part.

    ``test_fraction`` has no effect: the test part is the data set's own.

    Args:
        root: folder in which torchvision looks for it.
        download: fetch it from its authors if it is not there.
        batch_size: images per batch and process.
        num_workers: processes that prepare batches; they change only the speed.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Attributes:
        source: torchvision's class.
    """

    source: ClassVar[Any]

    def __init__(
        self,
        *,
        root: str | None = None,
        download: bool = False,
        batch_size: BatchSize = 96,
        num_workers: Workers = 2,
        **options: Unpack[TorchvisionOptions],
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, **options)
        self.root, self.download = root, download

    def prepare_data(self) -> None:
        """Download if asked to; Lightning calls it in one process only."""
        if self.download:
            self.load()

    def load(self) -> Images:
        return Images(train=self._part(train=True), test=self._part(train=False))

    def _part(self, train: bool) -> Arrays:
        name, folder = self.source.__name__, option("root", "FOLDER")
        if self.root is None:
            raise DataError(f"{name} needs {folder}; with {option('download', 'true')} it is downloaded to there")
        try:
            found = self.source(str(Path(self.root).expanduser()), train=train, download=self.download)
        except (RuntimeError, ValueError, AssertionError, EOFError, OSError) as reason:
            raise DataError(
                f"no usable {name} in {shown(Path(self.root))} ({shown(str(reason))}); set {folder}, or download it "
                f"with {option('download', 'true')}"
            ) from None
        self.class_names = [str(name) for name in found.classes]
        images = as_images(np.asarray(found.data), name)
        return Arrays(images, as_labels(np.asarray(found.targets), len(images), name))


class CIFAR10(TorchvisionData):
    """CIFAR-10: 60,000 colour photographs of 32 x 32 pixels, 10 classes (Krizhevsky, 2009); 10,000 are the test part.

    Batches are ``(x, y)``: x float32 (N, 3, 32, 32) with mean 0 and standard deviation 1 by channel over the training
    images, y int64 (N,) from 0 to 9. Training images are shifted by up to ``crop_padding`` pixels and mirrored.

    Args:
        image_size: height and width, for the configuration; no other value fits.
        channels: number of channels, likewise.
        num_classes: number of classes, likewise.
        crop_padding: pad training images by this many black pixels on each side and crop a random window.
        options: of :class:`TorchvisionData`.

    Raises:
        DataError: in ``setup``, if ``root`` is None or torchvision finds no usable files there.

    Example:
        >>> data = CIFAR10(root="data", download=True)  # downloads 170 MB in setup()
        >>> data.batch_size, data.crop_padding, data.flip
        (96, 4, True)
    """

    source = datasets.CIFAR10

    def __init__(
        self,
        *,
        image_size: Side | None = 32,
        channels: Width | None = 3,
        num_classes: PositiveInt | None = 10,
        crop_padding: NonNegativeInt = 4,
        **options: Unpack[DownloadedOptions],
    ) -> None:
        super().__init__(
            image_size=image_size, channels=channels, num_classes=num_classes, crop_padding=crop_padding, **options
        )


class CIFAR100(TorchvisionData):
    """CIFAR-100: 60,000 colour photographs of 32 x 32 pixels, 100 classes (Krizhevsky, 2009); 10,000 are the test part.

    Batches are as those of :class:`CIFAR10`, with labels from 0 to 99.

    Args:
        image_size: height and width, for the configuration; no other value fits.
        channels: number of channels, likewise.
        num_classes: number of classes, likewise.
        crop_padding: pad training images by this many black pixels on each side and crop a random window.
        options: of :class:`TorchvisionData`.

    Raises:
        DataError: as :class:`CIFAR10`.

    Example:
        >>> CIFAR100(root="data").batch_size
        96
    """

    source = datasets.CIFAR100

    def __init__(
        self,
        *,
        image_size: Side | None = 32,
        channels: Width | None = 3,
        num_classes: PositiveInt | None = 100,
        crop_padding: NonNegativeInt = 4,
        **options: Unpack[DownloadedOptions],
    ) -> None:
        super().__init__(
            image_size=image_size, channels=channels, num_classes=num_classes, crop_padding=crop_padding, **options
        )


class FashionMNIST(TorchvisionData):
    """Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, 10 classes; 10,000 are the test part.

    Batches are ``(x, y)``: x float32 (N, 1, 28, 28) with mean 0 and standard deviation 1 over the training images, y
    int64 (N,) from 0 to 9. Source: Xiao et al., 2017, arXiv:1708.07747.

    Args:
        image_size: height and width, for the configuration; no other value fits.
        channels: number of channels, likewise.
        num_classes: number of classes, likewise.
        crop_padding: pad training images by this many black pixels on each side and crop a random window.
        options: of :class:`TorchvisionData`.

    Raises:
        DataError: in ``setup``, if ``root`` is None or torchvision finds no usable files there.

    Example:
        >>> FashionMNIST(root="data").crop_padding
        2
    """

    source = datasets.FashionMNIST

    def __init__(
        self,
        *,
        image_size: Side | None = 28,
        channels: Width | None = 1,
        num_classes: PositiveInt | None = 10,
        crop_padding: NonNegativeInt = 2,
        **options: Unpack[DownloadedOptions],
    ) -> None:
        super().__init__(
            image_size=image_size, channels=channels, num_classes=num_classes, crop_padding=crop_padding, **options
        )
