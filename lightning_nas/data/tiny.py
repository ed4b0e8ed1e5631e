"""The images of the space ``tiny``: part of Fashion-MNIST at half its size."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from pydantic import PositiveInt

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.images import NPZ
from lightning_nas.data.options import KnownOptions, option
from lightning_nas.data.samples import Arrays, Samples
from lightning_nas.data.split import Images
from lightning_nas.data.vision import FashionMNIST
from lightning_nas.errors import DataError
from lightning_nas.ranges import Side, Width

TRAIN, TEST = 15_000, 5_000  # the first images of each part


class TinyImages(InMemoryImages):
    """The first 15,000 training and 5,000 test images of Fashion-MNIST, 14 x 14 pixels, each the mean of 2 x 2.

    On them the networks of :class:`~lightning_nas.spaces.chains.tiny.TinySpace` were trained for their table. With the
    default shares, 4,500 training images are for validation; those of the table were drawn with seed 0.

    Batches are ``(x, y)``: x float32 (N, 1, 14, 14) with mean 0 and standard deviation 1 over the training images, y
    int64 (N,) from 0 to 9. Training images are not augmented. Source: Xiao et al., 2017, arXiv:1708.07747.

    Args:
        root: folder in which torchvision looks for Fashion-MNIST, or
        path: a numpy file with ``x_train``, ``y_train``, ``x_test``, ``y_test``: at least the images named above, as
            Fashion-MNIST has them.
        download: fetch Fashion-MNIST from its authors if it is not in ``root``.
        image_size: height and width, for the configuration; no other value fits.
        channels: number of channels, likewise.
        num_classes: number of classes, likewise.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Raises:
        DataError: in ``setup``, if neither or both of ``root`` and ``path`` are given, or there are no such images.

    Example:
        >>> TinyImages(root="data").val_fraction
        0.3
    """

    defaults: ClassVar[KnownOptions] = {"batch_size": 250, "val_fraction": 0.3}

    def __init__(
        self,
        *,
        root: str | None = None,
        path: str | None = None,
        download: bool = False,
        image_size: Side | None = 14,
        channels: Width | None = 1,
        num_classes: PositiveInt | None = 10,
        **options: Unpack[KnownOptions],
    ) -> None:
        super().__init__(
            flip=False,
            crop_padding=0,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            **TinyImages.defaults | options,
        )
        self.root, self.path, self.download = root, path, download

    def prepare_data(self) -> None:
        """Download if asked to; Lightning calls it in one process only."""
        if self.root is not None:
            FashionMNIST(root=self.root, download=self.download).prepare_data()

    def load(self) -> Images:
        if (self.root is None) == (self.path is None):
            raise DataError(
                f"these are images of Fashion-MNIST: give {option('root', 'FOLDER')} with torchvision's files "
                f"({option('download', 'true')} fetches them), or {option('path', 'FILE')}, a numpy file"
            )
        source = FashionMNIST(root=self.root) if self.path is None else NPZ(path=self.path)
        found = source.load()
        self.class_names = source.class_names
        return Images(train=_shrunk(found.train, TRAIN), test=_shrunk(found.test, TEST))


def _shrunk(part: Samples | None, count: int) -> Arrays:
    """The first ``count`` images at half their size."""
    if not isinstance(part, Arrays) or len(part.labels) < count or tuple(part.images.shape[1:]) != (1, 28, 28):
        raise DataError(f"these are not the images of Fashion-MNIST: at least {count} of 28x28 grey pixels are needed")
    means = F.avg_pool2d(part.images[:count].float(), 2).round()
    return Arrays(means.to(torch.uint8), part.labels[:count])
