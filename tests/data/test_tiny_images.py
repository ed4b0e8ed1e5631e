from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_nas.data.tiny import TEST, TRAIN, TinyImages
from lightning_nas.errors import DataError


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 28, 28), np.uint8), draw.integers(0, 10, count)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (x, y), (x_test, y_test) = pictures(TRAIN + 50, 0), pictures(TEST + 50, 1)
    path = tmp_path_factory.mktemp("images") / "fashion.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


def test_the_first_images_are_taken_at_half_their_size(file: Path) -> None:
    data = TinyImages(path=str(file))
    data.setup()
    assert data.shape == (1, 14, 14)
    assert data.sizes == {"weights": 8400, "arch": 2100, "val": 4500, "test": 5000}
    found = data.load()
    assert found.test is not None
    for part, seed, place in ((found.train, 0, 14_999), (found.test, 1, 17)):
        images = part.take([place])
        assert images is not None
        whole = pictures(TRAIN + 50 if seed == 0 else TEST + 50, seed)[0][place]
        box = Image.fromarray(whole.astype(np.float32)).resize((14, 14), Image.Resampling.BOX)
        assert np.abs(images[0][0, 0].float().numpy() - np.asarray(box)).max() <= 0.5


def test_torchvisions_files_and_a_numpy_file_give_the_same_images(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Given:
        classes = tuple("abcdefghij")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            images, labels = pictures(TRAIN + 50, 0) if train else pictures(TEST + 50, 1)
            self.data, self.targets = torch.from_numpy(images), torch.from_numpy(labels)

    monkeypatch.setattr("lightning_nas.data.vision.FashionMNIST.source", Given)
    first, second = TinyImages(path=str(file)), TinyImages(root=str(tmp_path))
    first.setup()
    second.setup()
    assert first.digest() == second.digest()
    assert second.class_names == list("abcdefghij")


def test_other_images_are_refused(tmp_path: Path) -> None:
    x, y = pictures(200, 0)
    np.savez(tmp_path / "few.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DataError, match="not the images of Fashion-MNIST: at least 15000"):
        TinyImages(path=str(tmp_path / "few.npz")).setup()
    for given in ({}, {"path": "a", "root": "b"}):
        with pytest.raises(DataError, match=r"give .*root=FOLDER.*download=true.*or .*path=FILE"):
            TinyImages(**given).setup()
