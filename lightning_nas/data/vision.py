"""Data sets of torchvision that fit into memory."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torchvision import datasets

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import as_images, as_labels
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown


class TorchvisionData(InMemoryImages):
    """A data set that torchvision can download and that has a training and a test part.

    Args:
        root: folder in which torchvision looks for it.
        download: fetch it from its authors if it is not there.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Attributes:
        source: torchvision's class.
    """

    source: ClassVar[Any]

    def __init__(self, *, root: str | None, download: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.root, self.download = root, download

    def prepare_data(self) -> None:
        """Download if asked to; Lightning calls it in one process only."""
        if self.download:
            self.load()

    def load(self) -> Images:
        return Images(train=self._part(train=True), test=self._part(train=False))

    def _part(self, train: bool) -> Arrays:
        name = self.source.__name__
        if self.root is None:
            raise DataError(f"{name} needs dataset.root=FOLDER where it lies, or where dataset.download=true puts it")
        try:
            found = self.source(self.root, train=train, download=self.download)
        except (RuntimeError, ValueError, AssertionError, EOFError, OSError) as reason:
            raise DataError(
                f"no usable {name} in {shown(Path(self.root))} ({shown(str(reason))}); dataset.root=FOLDER says where "
                "it lies, dataset.download=true fetches it"
            ) from None
        images = as_images(np.asarray(found.data), name)
        return Arrays(images, as_labels(np.asarray(found.targets), len(images), name))


class CIFAR10(TorchvisionData):
    """60,000 photographs, 32 x 32 in colour, 10 classes (Krizhevsky, 2009); 10,000 of them the test."""

    source = datasets.CIFAR10


class CIFAR100(TorchvisionData):
    """As CIFAR-10, with 100 classes (Krizhevsky, 2009)."""

    source = datasets.CIFAR100


class FashionMNIST(TorchvisionData):
    """70,000 pictures of clothes, 28 x 28 grey, 10 classes (Xiao et al., 2017, arXiv:1708.07747); 10,000 the test."""

    source = datasets.FashionMNIST
