"""Small real tasks made of scikit-learn's digits: numbers and labels of an image, exactly known from its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

Array = np.ndarray[Any, Any]


def digits(count: int) -> tuple[Array, Array]:
    """Images (count, 8, 8) of 17 greys, uint8, and their digits (count,)."""
    pixels, digit = load_digits(return_X_y=True)
    return (pixels[:count].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8), digit[:count]


def numbers(count: int) -> tuple[Array, Array]:
    """Images, and mean ink, column and row of the centre of mass (count, 3); the first around 1,000."""
    x, _ = digits(count)
    ink, places = x.astype(float), np.arange(8)
    whole = ink.sum((1, 2))
    column, row = (ink.sum(1) * places).sum(1) / whole, (ink.sum(2) * places).sum(1) / whole
    return x, np.stack([1000 + ink.mean((1, 2)), column, row], 1)


def labels(count: int) -> tuple[Array, Array]:
    """Images, and whether the digit is even, above 4 and has a loop, (count, 3) of 0 and 1."""
    x, digit = digits(count)
    return x, np.stack([digit % 2 == 0, digit > 4, np.isin(digit, [0, 6, 8, 9])], 1).astype(np.int64)


TASKS = {"regression": numbers, "multilabel": labels}


def written(file: Path, task: str, count: int = 300) -> Path:
    """A numpy file of one of the tasks."""
    x, y = TASKS[task](count)
    np.savez(file, x_train=x, y_train=y)
    return file
