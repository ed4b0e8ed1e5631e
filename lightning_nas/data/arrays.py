"""Images and labels that a person holds as numpy arrays or tensors."""

from __future__ import annotations

from typing import Any

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.checks import Numbers, as_images, as_labels, check_same_shape
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError


class ArrayData(InMemoryImages):
    """Images and labels in memory, as numpy arrays or tensors."""

    def __init__(
        self,
        x_train: Numbers,
        y_train: Numbers,
        x_test: Numbers | None = None,
        y_test: Numbers | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (x_test is None) != (y_test is None):
            raise DataError("x_test and y_test belong together; pass both, or neither")
        self._given = {"train": (x_train, y_train)}
        if x_test is not None and y_test is not None:
            self._given["test"] = (x_test, y_test)

    def load(self) -> Images:
        parts = {}
        for part, (x, y) in self._given.items():
            images = as_images(x, f"x_{part}")
            parts[part] = Arrays(images, as_labels(y, len(images), f"y_{part}"))
        check_same_shape(parts, "ArrayData")
        return Images(**parts)
