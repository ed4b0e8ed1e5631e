from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from lightning_nas.data.images import NPZ


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., str]:
    """Write arrays into a file and give its path."""

    def write(**arrays: Any) -> str:
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


@pytest.fixture
def labelled() -> Callable[..., dict[str, Any]]:
    """``x_train, y_train, x_test, y_test`` of which every image is unlike all others: its number is in its pixels."""

    def make(train: int = 120, test: int = 30, classes: int = 3, size: int = 8, channels: int = 3) -> dict[str, Any]:
        numbers = np.arange(train + test)
        x = np.zeros((len(numbers), size, size, channels), np.uint8)
        x[:, 0, 0, 0], x[:, 0, 1, 0] = numbers % 256, numbers // 256
        x[:, 2:] = np.random.default_rng(0).integers(0, 256, x[:, 2:].shape)
        y = numbers % classes
        return {"x_train": x[:train], "y_train": y[:train], "x_test": x[train:], "y_test": y[train:]}

    return make


@pytest.fixture
def numbers() -> Callable[[Tensor], list[int]]:
    """The numbers that ``labelled`` has put into images (N, C, H, W) that were only scaled to 0..1."""

    def read(images: Tensor) -> list[int]:
        first = images[:, 0, 0, :2].mul(255).round().long()
        return (first[:, 0] + 256 * first[:, 1]).tolist()

    return read


@pytest.fixture
def data(write_npz: Callable[..., str], labelled: Callable[..., dict[str, Any]]) -> Callable[..., NPZ]:
    """A data set of ``labelled`` images, not augmented and not normalised unless asked for."""

    def make(train: int = 120, test: int = 30, classes: int = 3, **options: Any) -> NPZ:
        as_is = {"mean": [0.0] * 3, "std": [1.0] * 3, "flip": False, "batch_size": 4}
        module = NPZ(path=write_npz(**labelled(train, test, classes)), **as_is | options)
        module.setup()
        return module

    return make
