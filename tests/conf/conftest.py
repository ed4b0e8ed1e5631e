from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three of ImageNet's classes as ILSVRC unpacks them: train/WNID/*.JPEG and val/WNID/*.JPEG, of various sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 4)):
        for wnid in CLASSES:
            folder = tmp_path / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*rng.integers(30, 50, 2), 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{wnid}_{i}.JPEG")
    return tmp_path / "imagenet"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz file of 80 and 20 CIFAR-sized images of four classes."""
    rng, file = np.random.default_rng(0), tmp_path_factory.mktemp("images") / "images.npz"
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in (("train", 80), ("test", 20))}
    np.savez(file, **arrays, y_train=np.arange(80) % 4, y_test=np.arange(20) % 4)
    return file
