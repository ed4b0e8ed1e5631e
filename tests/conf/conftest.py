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
