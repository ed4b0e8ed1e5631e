"""The images of the space tiny, against numpy."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_nas.data.tiny import TEST, TRAIN, TinyImages
from lightning_nas.errors import DataError

REAL = Path(os.environ.get("LIGHTNING_NAS_DATA") or "nowhere") / "fashion_mnist_20k_5k.npz"


@pytest.mark.skipif(not REAL.is_file(), reason="LIGHTNING_NAS_DATA names no folder with fashion_mnist_20k_5k.npz")
def test_images_are_means_of_four_pixels() -> None:
    data = TinyImages(path=str(REAL))
    data.setup("fit")
    assert (data.shape, data.num_classes, data.sizes["val"], data.sizes["test"]) == ((1, 14, 14), 10, 4500, TEST)
    found = torch.cat([x for x, _ in data.evaluation_loader("test")])
    labels = torch.cat([y for _, y in data.evaluation_loader("test")])
    with np.load(REAL) as file:
        means = file["x_test"][:TEST].reshape(TEST, 14, 2, 14, 2).mean((2, 4)).round() / 255
        assert labels.tolist() == file["y_test"][:TEST].tolist()
    fitted = np.polyfit(means.ravel(), found.numpy().ravel(), 1)  # normalised by one mean and deviation
    np.testing.assert_allclose(found.numpy()[:, 0], np.polyval(fitted, means), atol=1e-5)
    training = torch.cat([x for x, _ in data.retrain_loader(lambda: 0, searched=True)])
    assert len(training) == TRAIN - 4500
    assert training.mean().abs() < 0.02


@pytest.mark.parametrize("given", [{}, {"root": "data", "path": "x.npz"}])
def test_one_source_must_be_named(given: dict[str, str]) -> None:
    with pytest.raises(DataError, match="these are images of Fashion-MNIST: give"):
        TinyImages(**given).setup("fit")  # type: ignore[arg-type]


def test_other_images_are_refused(tmp_path: Path) -> None:
    x, y = np.zeros((20, 28, 28), dtype=np.uint8), np.arange(20) % 10
    x[:, 0, 0] = np.arange(20)
    np.savez(tmp_path / "few.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DataError, match="at least 15000 of 28x28 grey pixels"):
        TinyImages(path=str(tmp_path / "few.npz")).setup("fit")
