"""Data with a class for each pixel: scenes, arrays, folders, and masks that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from lightning_nas.data.arrays import ArrayData
from lightning_nas.data.digit_scenes import DigitScenes
from lightning_nas.data.images import NPZ
from lightning_nas.data.segmentation_folder import SegmentationFolder
from lightning_nas.errors import DataError

COLOURS = [[128, 64, 128], [70, 70, 70], [0, 0, 142]]


def drawn(count: int = 40, size: tuple[int, int] = (12, 16), classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images whose red channel is 20 times the class of the pixel, and their masks."""
    masks = np.random.default_rng(0).integers(0, classes, (count, *size), np.uint8)
    return np.stack([20 * masks, masks, masks], -1), masks


def matches(x: Tensor, y: Tensor, data: Any) -> bool:
    """Whether the classes are those that the red channel has, after all that was done to both."""
    mean, std = data.normalisation
    red = (x[:, 0] * std[0] + mean[0]) * 255 / 20
    return bool((red.round() == y)[y != 255].all())


# -- scenes --------------------------------------------------------------------------------------------------------


def test_scenes_are_a_function_of_the_seed_and_their_parts_share_no_digit() -> None:
    made = [DigitScenes(scenes=40, batch_size=4, arch_fraction=0.3, seed=seed, digits=1) for seed in (0, 0, 1)]
    for data in made:
        data.setup()
    assert made[0].digest() == made[1].digest() != made[2].digest()
    ink, known = load_digits(return_X_y=True)[0].reshape(-1, 8, 8), dict[str, set[int]]()
    for name, scenes in made[0]._images.parts.items():
        known[name] = {digit for image, mask in zip(scenes.images[:, 0], scenes.masks, strict=True)
                       if (digit := the_digit(image, mask, ink)) is not None}  # fmt: skip
    assert all(len(found) > 1 for found in known.values())
    assert not known["train"] & known["test"] | known["train"] & known["val"] | known["val"] & known["test"]


def the_digit(image: Tensor, mask: Tensor, ink: np.ndarray) -> int | None:
    """The number of the only handwritten digit with the same ink, up to a factor; None for one of double size."""
    rows, columns = (mask > 0).nonzero(as_tuple=True)
    if max(rows.max() - rows.min(), columns.max() - columns.min()) >= 8:
        return None
    shape = np.zeros((8, 8), bool)
    values = np.zeros((8, 8))
    top, left = int(rows.min()), int(columns.min())
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        shape[row - top, column - left] = True
        values[row - top, column - left] = float(image[row, column])
    scores = []
    for number, digit in enumerate(ink):
        own = digit >= 4
        r, c = np.nonzero(own)
        moved = np.zeros((8, 8))
        moved[r - r.min(), c - c.min()] = digit[own]
        if ((moved > 0) == shape).all():
            scores.append((float(np.abs(moved / moved.sum() - values / values.sum()).sum()), number))
    return min(scores)[1]


def test_scenes_have_a_class_for_each_kind_of_pixel() -> None:
    data = DigitScenes(scenes=60, batch_size=4, image_size=(24, 40))
    data.setup()
    x, y = data.looked_at("retrain", 40)
    assert (data.shape, x.shape[2:], y.shape[1:], data.num_classes) == ((1, 24, 40), (24, 40), (24, 40), 11)
    assert set(y.unique().tolist()) == set(range(11))
    assert float(x[:, 0][y == 0].mean()) < float(x[:, 0][y > 0].mean()) - 1  # background is dark
    assert data.majority == 0
    with pytest.raises(DataError, match=r"image_size=7 .* legal: at least 8"):
        DigitScenes(image_size=7)


# -- arrays and files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensors", [False, True])
def test_images_and_masks_are_changed_together(as_tensors: bool) -> None:
    x, y = drawn()
    given = (torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long()) if as_tensors else (x, y)
    data = ArrayData(*given, batch_size=4, crop_padding=3, flip=True)
    data.expect("masks")
    data.setup()
    changed = [data.retrain_loader(lambda: 0).batches[t] for t in range(4)]
    assert all(matches(*pair, data) for pair in changed)
    assert any(bool((masks == 255).any()) for _, masks in changed)  # what the padding added
    again = ArrayData(*given, batch_size=4, crop_padding=3, flip=True)
    again.expect("masks")
    again.setup()
    assert all(torch.equal(a, b) for a, b in zip(changed[0], again.retrain_loader(lambda: 0).batches[0], strict=True))
    assert all(matches(*pair, data) and not (pair[1] == 255).any() for pair in data.test_dataloader())


def test_camvids_size_comes_from_a_numpy_file(tmp_path: Path) -> None:
    x, y = drawn(20, (96, 128), 12)
    y[:, :4] = 255
    np.savez(tmp_path / "camvid.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    data = NPZ(path=str(tmp_path / "camvid.npz"), batch_size=2)
    data.expect("masks")
    data.setup()
    assert (data.shape, data.num_classes, data.sizes["test"]) == ((3, 96, 128), 12, 4)
    images, masks = next(iter(data.test_dataloader()))
    assert (images.shape, masks.shape, masks.dtype) == ((2, 3, 96, 128), (2, 96, 128), torch.int64)
    assert not data.doubts


def at(place: tuple[int, ...], value: int, dtype: type = np.uint8) -> np.ndarray:
    y = drawn()[1].astype(dtype)
    y[place] = value
    return y


@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        (drawn()[1][:, :5], {}, r"y_train has the shape \(40, 5, 16\); masks of these images are \(40, 12, 16\)"),
        (drawn()[1][:, 0, 0], {}, r"y_train has the shape \(40,\)"),
        (drawn()[1].astype(float), {}, "has the type 'float64'; masks are integers"),
        (at((7, 0, 0), -1, np.int64), {}, "mask 7 in y_train has the value -1; legal: 0 to 254"),
        (at((7, 0, 0), 300, np.int64), {}, "mask 7 in y_train has the value 300"),
        (at((9, 1, 1), 4), {"num_classes": 3}, "mask 9 in y_train has the value 4, but num_classes .* is 3"),
        (at((3,), 255), {}, "mask 3 in y_train has no pixel with a class"),
        (np.zeros_like(drawn()[1]), {}, r"all labelled training pixels are of one class \(0\)"),
        (drawn()[1], {"cutout": 2}, "cutout=2 .* paints over what the masks name; legal: 0"),
        (drawn()[1], {"search_classes": 2}, "search_classes .* is 2, but the targets are masks"),
    ],
)
def test_masks_that_cannot_be_used_are_one_error(y: np.ndarray, options: dict[str, Any], words: str) -> None:
    data = ArrayData(drawn()[0], y, batch_size=4, **options)
    data.expect("masks")
    with pytest.raises(DataError, match=words):
        data.setup()


def test_classes_without_pixels_are_doubted() -> None:
    x, y = drawn()
    y[y == 1] = 255
    data = ArrayData(x, y, batch_size=4, num_classes=3)
    data.expect("masks")
    data.setup()
    assert data.doubts[0] == "no pixel to train on is of class 1"


def test_data_of_masks_alone_are_refused_for_other_tasks() -> None:
    for kind in ("classes", "numbers"):
        with pytest.raises(DataError, match=r"DigitScenes has one class a pixel \(task=segmentation\)"):
            DigitScenes().expect(kind)


# -- folders -------------------------------------------------------------------------------------------------------


def written(root: Path, form: str = "index", count: int = 20, size: tuple[int, int] = (12, 16)) -> Path:
    """A folder of images and masks of a form: index, palette or colour."""
    x, y = drawn(count, size)
    for name in ("images", "masks"):
        (root / name / "city").mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(x, y, strict=True)):
        Image.fromarray(image).save(root / "images" / "city" / f"{number:02d}.png")
        picture = Image.fromarray(mask)
        if form == "palette":
            picture = picture.convert("P")
            picture.putdata(mask.flatten().tolist())
            picture.putpalette([value for colour in COLOURS for value in colour])
        if form == "colour":
            picture = Image.fromarray(np.array(COLOURS, np.uint8)[mask])
        picture.save(root / "masks" / "city" / f"{number:02d}.png")
    return root


def opened(root: Path, **options: Any) -> SegmentationFolder:
    data = SegmentationFolder(
        root=str(root), batch_size=2, num_workers=0, arch_fraction=0.3, val_fraction=0.2, **options
    )
    data.setup()
    return data


@pytest.mark.parametrize(("form", "options"), [("index", {}), ("palette", {}), ("colour", {"colours": COLOURS})])
def test_masks_of_every_form_are_read_with_their_images(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    data = opened(written(tmp_path, form), **options)
    assert (data.shape, data.num_classes) == ((3, 12, 16), 3)
    assert all(matches(*pair, data) for pair in data.test_dataloader())
    x, y = data.retrain_loader(lambda: 0).batches[0]
    assert matches(x, y, data)
    assert data.preprocessing().outputs == "masks"


def test_training_is_on_windows_and_evaluation_at_full_size(tmp_path: Path) -> None:
    root = written(tmp_path)
    small = np.zeros((6, 10), np.uint8)
    Image.fromarray(np.stack([20 * small] * 3, -1)).save(root / "images" / "city" / "00.png")
    Image.fromarray(small).save(root / "masks" / "city" / "00.png")
    data = opened(root, crop=(8, 8))
    batches = [data.retrain_loader(lambda: 0).batches[t] for t in range(6)]
    assert all((x.shape[2:], y.shape[1:]) == ((8, 8), (8, 8)) and matches(x, y, data) for x, y in batches)
    every = [data.looked_at(name, 99) for name in ("retrain", "val", "test")]
    masks = torch.cat([y for _, y in every])
    assert masks.shape == (20, 12, 16)
    [padded] = [mask for mask in masks if bool((mask == 255).any())]
    assert bool((padded[:6, :10] == 0).all())
    assert int((padded == 255).sum()) == 12 * 16 - 60
    assert data.augmentation == "a random window of 8x8 pixels, mirrored with probability 0.5"
    assert data.preprocessing().kind == "own"  # a picture is padded, not scaled


def test_parts_are_those_of_the_folders(tmp_path: Path) -> None:
    written(tmp_path / "train", count=10)
    written(tmp_path / "val", count=3)
    assert opened(tmp_path).sizes["test"] == 3
    written(tmp_path / "test", count=4)
    assert {name: opened(tmp_path).sizes[name] for name in ("val", "test")} == {"val": 3, "test": 4}


def spoiled(root: Path, what: str) -> dict[str, Any]:
    """Spoil one mask or image; returns options."""
    mask, image = root / "masks" / "city" / "05.png", root / "images" / "city" / "05.png"
    values = np.zeros((12, 16), np.uint8)
    if what == "size":
        Image.fromarray(values[:5]).save(mask)
    elif what == "value":
        values[2, 2] = 9
        Image.fromarray(values).save(mask)
        return {"num_classes": 3}
    elif what == "ignored":
        Image.fromarray(values + 255).save(mask)
    elif what == "colour":
        Image.fromarray(np.array(COLOURS, np.uint8)[values] + 1).save(mask)
        return {"colours": COLOURS, "unlabelled": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    elif what == "no table":
        Image.fromarray(np.array(COLOURS, np.uint8)[values]).save(mask)
    elif what == "missing":
        mask.unlink()
    elif what == "damaged mask":
        mask.write_bytes(b"no picture")
    elif what == "damaged image":
        image.write_bytes(b"no picture")
    elif what == "jpeg":
        mask.rename(mask.with_suffix(".jpg"))
    elif what == "large":
        return {"image_size": 12}
    return {}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("size", r"masks/city/05\.png'?: it has 5x16 pixels, its image 12x16; legal: the same"),
        ("value", r"masks/city/05\.png'? has the value 9, but num_classes .* is 3; legal: 0 to 2"),
        ("ignored", r"masks/city/05\.png'? has no pixel with a class, 255 everywhere"),
        ("colour", r"masks/city/05\.png'?: it has the colour \[129, 65, 129\], which is not in dataset\.colours"),
        ("no table", r"masks/city/05\.png'?: it is in colour \(mode RGB\); dataset\.colours="),
        ("missing", r"images/city/05\.png'? has no mask; legal is .*masks/city/05\.png"),
        ("damaged mask", r"masks/city/05\.png'?: it is no image of a known format"),
        ("damaged image", r"images/city/05\.png'? cannot be decoded"),
        ("jpeg", r"masks/city/05\.jpg'? is of a form that changes values"),
        ("large", r"images/city/00\.png'? has 12x16 pixels, more than image_size=\[12,12\]"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(tmp_path: Path, what: str, words: str) -> None:
    root = written(tmp_path, "colour" if what == "colour" else "index")
    options = spoiled(root, what)
    with pytest.raises(DataError, match=words):
        opened(root, **options)


def test_tables_of_colours_that_contradict_are_refused() -> None:
    with pytest.raises(DataError, match="names a colour twice"):
        SegmentationFolder(colours=[[0, 0, 0], [0, 0, 0]])
    with pytest.raises(DataError, match=r"unlabelled .* needs colours"):
        SegmentationFolder(unlabelled=[[0, 0, 0]])
