import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from lightning_nas.data.folder import ImageFolder, ImageNet
from lightning_nas.errors import ConfigError, DataError
from lightning_nas.signature import check_arguments

AS_IS = {"flip": False, "batch_size": 2, "mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 16, "crop_ratio": 0.875}


@pytest.fixture
def root(tmp_path):
    """Pictures of many sizes and kinds, 12 of each class for training and 3 for validation."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 3)):
        for name in ("bird", "cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(18, 40, 2)
                pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
                kind = {0: "L", 1: "RGBA"}.get(i, "RGB")
                suffix = "png" if kind == "RGBA" else "jpg"
                Image.fromarray(pixels).convert(kind).save(tmp_path / part / name / f"{i:02d}.{suffix}")
    return tmp_path


def test_evaluation_is_torchvisions_resize_and_centre_crop(root):
    data = ImageFolder(root=str(root), **AS_IS)
    data.setup()
    assert (data.shape, data.num_classes) == ((3, 16, 16), 3)
    assert (data.sizes["test"], sum(data.sizes.values())) == (9, 45), "a lone val/ is the test"
    steps = v2.Compose([v2.Resize(18), v2.CenterCrop(16), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    theirs = datasets.ImageFolder(root / "val", transform=steps)
    x, y = (torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True))
    torch.testing.assert_close(x, torch.stack([torch.as_tensor(image) for image, _ in theirs]))
    assert y.tolist() == theirs.targets


def test_training_windows_differ_by_pass_and_not_by_workers(root):
    def batches(workers, position):
        data = ImageFolder(root=str(root), num_workers=workers, jitter=0.4, cutout=4, **AS_IS)
        data.setup()
        return [(x.numpy().tobytes(), y.tolist()) for x, y in data.retrain_loader(lambda: position)]

    alone = batches(0, 0)
    assert batches(2, 0) == alone
    assert not {x for x, _ in batches(0, len(alone))} & {x for x, _ in alone}


@pytest.mark.parametrize("jitter", [-0.1, 1.01, 1e308])
def test_a_jitter_that_leaves_no_picture_is_refused(jitter):
    with pytest.raises(ConfigError, match="jitter"):
        check_arguments(ImageFolder, [], {"root": "photos", "jitter": jitter, **AS_IS})


def test_train_val_and_test_folders_are_used_as_they_are_called(root):
    (root / "val").rename(root / "test")
    (root / "val").mkdir()
    for name in ("bird", "dog"):
        (root / "val" / name).mkdir()
        (root / "train" / name / "00.jpg").rename(root / "val" / name / "0.JPEG")
    data = ImageFolder(root=str(root), **AS_IS)
    data.setup()
    assert (data.sizes["val"], data.sizes["test"]) == (2, 9)
    assert [y.tolist() for _, y in data.val_dataloader()] == [[0, 2]], "classes are numbered by the training folder"


def test_grey_images_and_statistics_of_the_data(root):
    data = ImageFolder(root=str(root), image_size=16, channels=1, flip=False, batch_size=2)
    data.setup()
    assert data.shape == (1, 16, 16)
    batches = data._division.in_order("retrain")
    images = torch.cat([batches[t][0] for t in range(len(batches))])
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std().item() == pytest.approx(1, abs=1e-2)


def test_a_broken_picture_is_named_in_one_line_also_from_a_worker(root):
    loaded = [ImageFolder(root=str(root), num_workers=workers, **AS_IS | {"flip": True}) for workers in (0, 1)]
    for data in loaded:
        data.setup()
    for file in (root / "train" / "cat").iterdir():  # it breaks while the run is at work
        file.write_bytes(file.read_bytes()[:200])
    for data in loaded:
        with pytest.raises(DataError, match=r"cannot decode .*cat.*\d\d\.(jpg|png)") as error:
            list(data.retrain_loader(lambda: 0))
        assert str(error.value).isprintable()


def test_unusable_folders_are_one_line(root, tmp_path):
    def message(path, kind=ImageFolder, **options):
        with pytest.raises(DataError) as error:
            kind(root=path and str(path), **AS_IS | options).setup()
        assert str(error.value).isprintable()
        return str(error.value)

    assert "(dataset.root=FOLDER on the command line) is needed" in message(None)
    assert "image_size=PIXELS (dataset.image_size=PIXELS on the command line) is needed" in message(
        root, image_size=None
    )
    assert "there is no folder" in message(tmp_path / "nowhere")
    assert re.search("from 0 to 2, that is 3 classes, but num_classes .* is 1000", message(root, ImageNet))
    assert "cannot be downloaded" in message(root, ImageNet, download=True)
    (root / "val" / "eel").mkdir()
    (root / "val" / "cat" / "00.jpg").rename(root / "val" / "eel" / "00.jpg")
    assert "has a class 'eel' without training images" in message(root)
    (root / "val" / "eel" / "00.jpg").unlink()
    (root / "val" / "eel").rename(root / "train" / "eel")
    assert "the class 'eel' has no images in" in message(root)
    ImageFolder(root=str(root), num_classes=4, **AS_IS).setup()
    (tmp_path / "empty" / "train" / "cat").mkdir(parents=True)
    assert "no images in" in message(tmp_path / "empty")
    (tmp_path / "one" / "train").mkdir(parents=True)
    (root / "train" / "cat").rename(tmp_path / "one" / "train" / "cat")
    assert "all training images are of one class" in message(tmp_path / "one")
