import io
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_nas.data import image_files
from lightning_nas.data.folder import ImageFolder
from lightning_nas.errors import DataError

SIZE = 8
RAMP = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_NAS_CACHE", str(tmp_path / "cache"))


def folder(root, images, ending="png", classes=("cat", "dog")):
    for number, image in enumerate(images):
        place = root / classes[number % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:02d}.{ending}")
    return root


def pixels(root, channels=1, **options):
    """All training images as they come, with no statistics taken off."""
    as_is = {"flip": False, "batch_size": 2, "mean": [0.0] * channels, "std": [1.0] * channels, "num_workers": 0}
    data = ImageFolder(root=str(root), image_size=SIZE, channels=channels, **as_is | options)
    data.setup()
    batches = data._division.in_order("retrain")
    return data, torch.cat([batches[t][0] for t in range(len(batches))])


WIDE = {
    "png": (np.uint16, lambda x: x / 65535),
    "pgm": (np.uint16, lambda x: x / 65535),
    "tif": (np.uint16, lambda x: x / 65535),
    "tif of int32": (np.int32, lambda x: x),
    "tif of float32": (np.float32, lambda x: x),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", WIDE)
def test_grey_values_of_more_than_8_bits_keep_their_range(kind, channels, tmp_path):
    dtype, scaled = WIDE[kind]
    images = [(RAMP * 1000 + i).astype(dtype) for i in range(20)]
    data, found = pixels(folder(tmp_path / "data", map(Image.fromarray, images), kind.split()[0]), channels)
    wanted = [scaled(images[i].astype(np.float64)) for i in (*range(0, 20, 2), *range(1, 20, 2))]
    chosen = data._division.parts["retrain"].indices.tolist()
    for image, number in zip(found, chosen, strict=True):
        for channel in image:
            np.testing.assert_allclose(channel, wanted[number], rtol=1e-6)


def png_of_16_bits(values, colour):
    """A PNG file (PNG specification, ISO 15948) of values (H, W, C), which Pillow cannot write."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("colour", "values"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "grey and alpha", "RGB and alpha"])
def test_colours_of_16_bits_keep_their_range(colour, values, channels, tmp_path):
    """10-bit colours: of their values Pillow would keep four."""
    drawn = np.random.default_rng(0).integers(0, 1024, (20, SIZE, SIZE, values)).astype(np.uint16)
    opaque = values in (2, 4)
    if opaque:
        drawn[..., -1] = 65535
    for number, image in enumerate(drawn):
        place = tmp_path / "data" / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.png").write_bytes(png_of_16_bits(image, colour))
    data, found = pixels(tmp_path / "data", channels)
    wanted = (drawn[..., :-1] if opaque else drawn).astype(np.float64) / 65535
    if channels == 1 and wanted.shape[-1] == 3:
        wanted = wanted @ np.array([[0.299], [0.587], [0.114]])
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    for image, number in zip(found, data._division.parts["retrain"].indices.tolist(), strict=True):
        expected = np.broadcast_to(wanted[order[number]], (SIZE, SIZE, channels)).transpose(2, 0, 1)
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_transparent_parts_of_16_bits_show_white():
    half = np.full((2, 2, 4), 32768, np.uint16)
    file = io.BytesIO(png_of_16_bits(half, 6))
    np.testing.assert_allclose(image_files.read_image(file, "RGB"), 0.5 * 0.5 + 0.5, atol=1e-4)


def test_colours_of_16_bits_that_cannot_be_read_whole_are_refused(tmp_path):
    place = tmp_path / "data" / "cat"
    place.mkdir(parents=True)
    (place / "a.ppm").write_bytes(b"P6 2 1 1023\n" + np.arange(6, dtype=">u2").tobytes())
    folder(tmp_path / "data", [Image.new("RGB", (2, 1))] * 2)
    with pytest.raises(DataError, match=r"a\.ppm.*colours of 16 bits are read from PNG"):
        pixels(tmp_path / "data", 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_8_bits_are_pillows_colours(mode, tmp_path):
    rng = np.random.default_rng(0)
    colours = [Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)) for _ in range(20)]
    ending = {"CMYK": "tif", "YCbCr": "tif", "PA": "tif"}.get(mode, "png")
    root = folder(
        tmp_path / "data", [image.convert("P" if mode == "PA" else mode).convert(mode) for image in colours], ending
    )
    _, found = pixels(root, 3)
    theirs = {v2.functional.pil_to_tensor(Image.open(f).convert("RGB")).numpy().tobytes() for f in root.glob("*/*")}
    assert {x.mul(255).round().to(torch.uint8).numpy().tobytes() for x in found} <= theirs


def test_a_shape_in_the_alpha_channel_alone_is_seen(tmp_path):
    alpha = (RAMP % 2 * 255).astype(np.uint8)
    black = [Image.merge("RGBA", [*Image.new("RGB", (SIZE, SIZE)).split(), Image.fromarray(alpha)])] * 20
    _, found = pixels(folder(tmp_path / "data", black), 3)
    np.testing.assert_array_equal(found[0, 0], 1 - RAMP % 2)


def test_a_mode_that_is_no_colour_is_named_with_its_file(tmp_path):
    root = folder(tmp_path / "data", [Image.new("RGB", (SIZE, SIZE), (i, 0, 0)) for i in range(20)], "tif")
    Image.new("LAB", (SIZE, SIZE)).save(root / "cat" / "lab.tif")
    with pytest.raises(
        DataError, match=r"1 of 21 images cannot be decoded, first '.*cat/lab.tif': .*mode LAB is not"
    ) as error:
        pixels(root, 3)
    assert str(error.value).isprintable()


def test_files_without_a_common_scale_are_refused(tmp_path):
    root = folder(tmp_path / "data", [Image.new("L", (SIZE, SIZE), i) for i in range(20)], "tif")
    Image.fromarray(RAMP.astype(np.float32)).save(root / "dog" / "wide.tif")
    with pytest.raises(
        DataError, match=r"no common scale: 'dog/wide.tif' holds numbers of 32 bits and 'cat/00.tif' bytes"
    ):
        pixels(root)


def test_bytes_beside_16_bits_are_scaled_alike(tmp_path):
    root = folder(tmp_path / "data", [Image.new("L", (SIZE, SIZE), 51)] * 10)
    folder(root, [Image.fromarray(np.full((SIZE, SIZE), 13107, np.uint16))] * 20, "tif")
    data, found = pixels(root)
    torch.testing.assert_close(found, torch.full_like(found, 0.2))
    assert any("some images have 8 bits, some 16" in doubt for doubt in data.doubts)


def test_unreadable_images_are_found_at_the_start_or_skipped(tmp_path):
    root = folder(tmp_path / "Kätzchen", [Image.new("RGB", (64, 64), (i, 9, i)) for i in range(20)], "jpg")
    broken = root / "cat" / "04.jpg"
    broken.write_bytes(broken.read_bytes()[:-40])
    (root / "dog" / "03.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"2 of 20 images cannot be decoded, first '.*Kätzchen/cat/04.jpg'.*skip_unreadable=true"
    ):
        pixels(root, 3)
    data, _ = pixels(root, 3, skip_unreadable=True)
    assert sum(data.sizes.values()) == 18
    assert "2 of 20 images cannot be decoded and are left out" in data.doubts[0]


def test_files_are_looked_at_again_when_one_changed(tmp_path, monkeypatch):
    root = folder(tmp_path / "data", [Image.new("L", (SIZE, SIZE), i) for i in range(20)])
    looked = []
    look = image_files._look
    monkeypatch.setattr(image_files, "_look", lambda *given: looked.append(given) or look(*given))
    first = pixels(root)[0].digest()
    assert len(looked) == 20
    assert pixels(root)[0].digest() == first
    assert len(looked) == 20, "cached"
    (root / "cat" / "00.png").touch()
    assert pixels(root)[0].digest() == first, "touched, but the same"
    assert len(looked) == 40
    Image.new("L", (SIZE, SIZE), 99).save(root / "cat" / "00.png")
    assert pixels(root)[0].digest() != first


def test_hidden_files_are_no_images_and_their_folders_no_classes(tmp_path, caplog):
    root = folder(tmp_path / "data", [Image.new("L", (SIZE, SIZE), i) for i in range(20)])
    for hidden in (root / ".ipynb_checkpoints", root / "cat" / ".ipynb_checkpoints", root / "__MACOSX" / "cat"):
        hidden.mkdir(parents=True)
        shutil.copy(root / "cat" / "00.png", hidden / "00-checkpoint.png")
    (root / "cat" / "._00.png").write_bytes(b"resource fork")
    (root / "cat" / "Thumbs.db").write_bytes(b"")
    Image.new("L", (SIZE, SIZE)).save(root / "dog" / "a.gif")
    (root / "readme.txt").write_text("")
    (root / "cat" / "again").symlink_to(root / "cat")
    with caplog.at_level("INFO"):
        data, _ = pixels(root)
    assert (data.num_classes, sum(data.sizes.values()), data.class_names) == (2, 20, ["cat", "dog"])
    assert (
        "1 files '.db', 1 files '.gif', 1 files outside of the class folders, 4 hidden files or folders" in caplog.text
    )
    assert any("1 files .gif are not read" in doubt for doubt in data.doubts)


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST"), ("training", "testing"), ("train", "valid")])
def test_usual_names_of_the_parts_are_known(names, tmp_path):
    for name, count in zip(names, (20, 6), strict=True):
        folder(tmp_path / "data" / name, [Image.new("L", (SIZE, SIZE), i) for i in range(count)])
    assert pixels(tmp_path / "data")[0].sizes["test"] == 6


def test_folders_that_hold_no_classes_say_so(tmp_path):
    root = tmp_path / "data"
    folder(root / "test", [Image.new("L", (SIZE, SIZE))])
    with pytest.raises(DataError, match="holds 'test' but no train/"):
        pixels(root)
    (root / "test").rename(root / "train")
    for file in root.glob("train/*/*"):
        file.rename(root / "train" / file.name)
    (root / "train" / "cat").rmdir()
    with pytest.raises(DataError, match="has no class folders but 1 images without one"):
        pixels(root)


def test_pages_and_rotations_are_doubts(tmp_path):
    root = folder(tmp_path / "data", [Image.new("L", (SIZE, SIZE), i) for i in range(20)], "tif")
    Image.new("L", (SIZE, SIZE)).save(
        root / "cat" / "p.tif", save_all=True, append_images=[Image.new("L", (SIZE, SIZE))]
    )
    exif = Image.Exif()
    exif[274] = 6
    Image.new("L", (SIZE, SIZE)).save(root / "cat" / "r.jpg", exif=exif)
    doubts = " ".join(pixels(root)[0].doubts)
    assert "1 of 22 images have several pages" in doubts
    assert "1 of 22 images are marked as rotated" in doubts


def test_small_images_are_padded_and_large_ones_resized_at_random(tmp_path):
    root = folder(tmp_path / "data", [Image.new("RGB", (SIZE, SIZE), (i, 0, 0)) for i in range(20)])

    def steps(**options):
        data = ImageFolder(root=str(root), **options)
        return [type(step).__name__ for step in data.geometry(None)[0]]

    assert steps(image_size=32) == ["Resize", "RandomCrop", "PILToTensor"]
    assert steps(image_size=96) == ["RandomResizedCrop", "PILToTensor"]
    assert steps(image_size=32, min_scale=0.5) == ["RandomResizedCrop", "PILToTensor"]


@pytest.mark.parametrize(
    ("channels", "names", "flip"), [(3, "cat dog", True), (1, "cat dog", False), (3, "a b", False)]
)
def test_only_colour_images_of_no_characters_are_mirrored(channels, names, flip, tmp_path):
    images = [Image.new("RGB", (SIZE, SIZE), (9 * i, i, 0)) for i in range(20)]
    root = folder(tmp_path / "data", images, classes=names.split())
    assert pixels(root, channels, flip=None)[0].flip is flip
    assert pixels(root, channels, flip=True)[0].flip is True
