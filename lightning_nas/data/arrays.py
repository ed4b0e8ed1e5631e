"""Images and labels that a person holds as numpy arrays or tensors."""

from __future__ import annotations

from typing import ClassVar, Unpack

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import Numbers, as_images, check_same_shape, check_same_type
from lightning_nas.data.masks import with_targets
from lightning_nas.data.options import ArrayOptions
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError
from lightning_nas.ranges import Targets


class ArrayData(InMemoryImages):
    """Images and labels in memory; the same as :class:`~lightning_nas.data.images.NPZ` of a file with these arrays.

    Images have at most 16 channels, 4 if not square: uint8 or uint16, divided by their largest value, or bool or
    floating point (used as float32). Their type decides where the channels are: numpy arrays are (N, H, W) or (N, H, W,
    C), channels last; tensors are (N, H, W) or (N, C, H, W), channels first. Labels are integers, (N,) or (N, 1), and
    count the classes from 0; for ``task=regression`` they are numbers (N,) or (N, T), for ``task=multilabel`` 0 or 1
    (N, T), for ``task=segmentation`` a class for each pixel (N, H, W), 255 for none. Without test images
    ``test_fraction`` of the training images is the test part.

    Batches are ``(x, y)``: x float32 (N, C, H, W) with mean 0 and standard deviation 1 by channel over the training
    images, y int64 (N,) or (N, H, W), or float32 (N, T); see :class:`~lightning_nas.data.module.ImageData`.

    Args:
        x_train: images to search on, to validate and to retrain on.
        y_train: their labels.
        x_test: test images, of the same shape; None takes some of the training images.
        y_test: their labels.
        flip: mirror training images left to right with probability 1/2.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Raises:
        DataError: only one of ``x_test`` and ``y_test``; in ``setup``, arrays that are not as above, or too few images.

    Example:
        >>> import torch
        >>> x, y = torch.rand(100, 3, 8, 8), torch.arange(100) % 4
        >>> data = ArrayData(x, y, batch_size=8)
        >>> data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((3, 8, 8), 4, {'weights': 56, 'arch': 14, 'val': 10, 'test': 20})
    """

    offers: ClassVar[tuple[Targets, ...] | None] = ("classes", "numbers", "labels", "masks")

    def __init__(
        self,
        x_train: Numbers,
        y_train: Numbers,
        x_test: Numbers | None = None,
        y_test: Numbers | None = None,
        *,
        flip: bool = False,
        **options: Unpack[ArrayOptions],
    ) -> None:
        super().__init__(flip=flip, **options)
        if (x_test is None) != (y_test is None):
            raise DataError("x_test and y_test belong together; pass both, or neither")
        self._given = {"train": (x_train, y_train)}
        if x_test is not None and y_test is not None:
            self._given["test"] = (x_test, y_test)

    def load(self) -> Images:
        parts = {}
        for part, (x, y) in self._given.items():
            images = as_images(x, f"x_{part}")
            parts[part] = with_targets(images, y, f"y_{part}", self.targets)
        check_same_type({f"x_{part}": x for part, (x, _) in self._given.items()}, "the images")
        check_same_shape(parts, "x_train and x_test differ")
        return Images(**parts)
