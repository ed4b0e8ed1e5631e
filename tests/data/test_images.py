import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_nas.data import images
from lightning_nas.data.checks import as_images, type_of
from lightning_nas.data.images import NPZ
from lightning_nas.data.samples import Arrays
from lightning_nas.errors import DataError

real = Path(os.environ.get("LIGHTNING_NAS_DATA", ""))
needs_real = pytest.mark.skipif(not os.environ.get("LIGHTNING_NAS_DATA"), reason="LIGHTNING_NAS_DATA is not set")


def setup(path, **options):
    data = NPZ(path=path, flip=False, batch_size=2, **options)
    data.setup()
    return data


def raw(data):
    """Pixels of the test part, as they come out of the loader."""
    return torch.cat([x for x, _ in data.test_dataloader()])


@needs_real
@pytest.mark.parametrize(
    ("name", "shape", "train", "test"),
    [("cifar10_sub_4k_1k", (3, 32, 32), 4000, 1000), ("fashion_mnist_20k_5k", (1, 28, 28), 20000, 5000)],
)
def test_real_images_come_out_as_numpy_reads_them(name, shape, train, test):
    data = setup(str(real / f"{name}.npz"))
    assert (data.shape, data.num_classes) == (shape, 10)
    assert (sum(data.sizes.values()), data.sizes["test"]) == (train + test, test)
    file = np.load(real / f"{name}.npz")
    x, y = data.evaluation_loader("test").batches[7]
    pixels = (file["x_test"][14:16] / 255).reshape(2, *shape[1:], shape[0]).transpose(0, 3, 1, 2)
    part = data._division.parts["retrain"].indices.numpy()
    train_pixels = file["x_train"][part].reshape(len(part), -1, shape[0]) / 255
    mean, std = (moment((0, 1)).reshape(-1, 1, 1) for moment in (train_pixels.mean, train_pixels.std))
    np.testing.assert_allclose(x, (pixels - mean) / std, atol=1e-4)
    assert y.tolist() == file["y_test"][14:16].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_every_legal_type_and_layout(dtype, channels, write_npz, labelled):
    arrays = labelled(channels=channels)
    bytes_ = arrays["x_test"].copy()
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].astype(dtype) / (1 if dtype == np.uint8 else 255)
        arrays[key] = arrays[key].astype(dtype)
    if channels == 1:
        arrays |= {key: arrays[key][..., 0] for key in ("x_train", "x_test")}
    found = raw(setup(write_npz(**arrays), mean=[0.0] * channels, std=[1.0] * channels))
    np.testing.assert_allclose(
        found.numpy().transpose(0, 2, 3, 1), bytes_ / 255, atol=1e-3 if dtype == np.float16 else 1e-6
    )


def test_a_file_without_a_test_part_gets_one_cut_off(write_npz, labelled):
    arrays = labelled(120)
    data = setup(write_npz(x_train=arrays["x_train"], y_train=arrays["y_train"]), test_fraction=0.25)
    assert data.sizes["test"] == 30
    assert sum(data.sizes.values()) == 120


def nan(x):
    x = x.astype(np.float32)
    x[4, 1, 1] = np.nan
    return x


BAD = {
    "lacks x_test": (lambda a: a.pop("x_test"), r"lacks x_test; it must have x_train, y_train, x_test, y_test"),
    "lacks training": (lambda a: (a.pop("x_train"), a.pop("y_train")), r"lacks x_train, y_train"),
    "too few dimensions": (
        lambda a: a.update(x_train=a["x_train"][..., 0, 0]),
        r"x_train of .* has the shape \(120, 8\)",
    ),
    "channels first": (
        lambda a: a.update(x_train=a["x_train"].transpose(0, 3, 1, 2)),
        r"shape \(120, 3, 8, 8\); legal",
    ),
    "integers": (lambda a: a.update(x_train=a["x_train"].astype(int)), r"has the type 'int64'; legal are uint8"),
    "no images": (
        lambda a: a.update(x_train=a["x_train"][:0], y_train=a["y_train"][:0]),
        r"x_train of .* has no images",
    ),
    "nan": (lambda a: a.update(x_train=nan(a["x_train"])), r"x_train .* NaN or infinite, first in image 4"),
    "infinite": (
        lambda a: a.update(x_test=np.full((30, 8, 8, 3), np.inf)),
        r"x_test .* NaN or infinite, first in image 0",
    ),
    "lengths": (lambda a: a.update(y_train=a["y_train"][:-1]), r"y_train of .* has 119 labels for 120 images"),
    "negative": (lambda a: a.update(y_train=a["y_train"] - 1), r"y_train .* labels from -1 to 1; they must count"),
    "enormous": (
        lambda a: a.update(y_train=a["y_train"].astype(np.uint64) + 2**63),
        r"labels from \d+ to \d+; they must",
    ),
    "fractions": (lambda a: a.update(y_train=a["y_train"] / 2), r"has the type 'float64'; labels must be integers"),
    "one-hot": (
        lambda a: a.update(y_train=np.eye(3, dtype=int)[a["y_train"]]),
        r"shape \(120, 3\); labels must be one number per image",
    ),
    "one class": (
        lambda a: a.update(y_train=a["y_train"] * 0, y_test=a["y_test"] * 0),
        r"all training images are of one",
    ),
    "a gap": (lambda a: a.update(y_train=a["y_train"] * 2), r"go up to 4, but class 1 has no training image; .*=5"),
    "new in the test": (lambda a: a.update(y_test=a["y_test"] + 1), r"go up to 3, but class 3 has no training image"),
    "other test size": (lambda a: a.update(x_test=a["x_test"][:, :6, :6]), r"are \(3, 8, 8\), test images \(3, 6, 6\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_one_line(case, write_npz, labelled):
    spoil, message = BAD[case]
    arrays = labelled()
    spoil(arrays)
    with pytest.raises(DataError, match=message) as error:
        setup(write_npz(**arrays))
    assert len(str(error.value)) <= 400
    assert str(error.value).isprintable()


def test_labels_with_a_gap_are_legal_if_the_number_of_classes_is_given(write_npz, labelled):
    arrays = labelled()
    for key in ("y_train", "y_test"):
        arrays[key] = arrays[key] * 2
    assert setup(write_npz(**arrays), num_classes=5).num_classes == 5


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_run(write_npz, labelled, tmp_path):
    canary = tmp_path / "canary"
    objects = np.array([Canary(canary)], dtype=object)
    path = write_npz(**labelled() | {"y_train": objects})
    with pytest.raises(DataError, match="is refused: it holds pickled objects"):
        setup(path)
    assert not canary.exists()
    np.load(path, allow_pickle=True)["y_train"]
    assert canary.exists(), "it would have run"


def test_files_that_are_no_numpy_archive_are_one_line(tmp_path, write_npz, labelled, monkeypatch):
    def message(path, **options):
        with pytest.raises(DataError) as error:
            setup(str(path) if path else None, **options)
        assert str(error.value).isprintable()
        return str(error.value)

    assert "is needed: path=FILE (dataset.path=FILE on the command line)" in message(None)
    assert "there is no file" in message(tmp_path / "a\nb.npz")
    assert "there is no file" in message(tmp_path)
    (tmp_path / "noise.npz").write_bytes(os.urandom(10_000))
    assert "is not a numpy .npz file" in message(tmp_path / "noise.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "is not a numpy .npz file" in message(tmp_path / "one.npy")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        for key in ("x_train.npy", "y_train.npy"):
            archive.writestr(key, "words")
    assert "x_train is not a numpy array" in message(tmp_path / "text.npz")
    monkeypatch.setattr(images, "machine_memory", lambda: 10_000)
    monkeypatch.setattr(np, "load", None)  # nothing of it is read
    assert "legal: at most 10000, the memory of this machine: store pixels as" in message(write_npz(**labelled()))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of the memory is not known here")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_held_in_memory_once_and_in_their_type(dtype, tmp_path):
    x = np.frombuffer(np.random.default_rng(0).bytes(90_000_000), dtype).reshape(-1, 25, 20, 3)
    for name, some in (("small", x[:99]), ("large", x)):
        np.savez(tmp_path / f"{name}.npz", x_train=some, y_train=np.arange(len(some)) % 3)
    setup(str(tmp_path / "small.npz")).digest()  # whatever is imported only now
    size = (tmp_path / "large.npz").stat().st_size
    del x
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory("VmHWM")
    setup(str(tmp_path / "large.npz")).digest()
    assert memory("VmHWM") - before < 1.5 * size


def memory(name):
    """A line of the kernel's about this process, in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


@pytest.mark.parametrize(
    "kept",
    [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x.astype(x.dtype.newbyteorder()), np.ascontiguousarray],
    ids=["Fortran order", "negative steps", "other byte order", "read only"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_, np.float16, np.float32, np.float64, np.longdouble])
def test_images_in_any_order_of_memory_are_the_same(kept, dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 256, (40, 5, 6, 3)).astype(dtype)
    given = kept(x)
    given.flags.writeable = False
    made = as_images(given, "x")
    assert type_of(given) == str(np.dtype(dtype))
    largest = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    found = Arrays(made, torch.zeros(40)).take([3, 7])[0]
    assert found.is_contiguous()
    expected = np.asarray(given, np.float32)[[3, 7]].transpose(0, 3, 1, 2) / np.float32(largest)
    np.testing.assert_array_equal(found / 255 if dtype == np.uint8 else found, expected)


def test_damaged_files_never_end_in_another_error(write_npz, labelled, tmp_path):
    whole = Path(write_npz(**labelled(30, 6))).read_bytes()
    rng, survived = random.Random(0), 0
    for i in range(300):
        damaged = bytearray(whole)
        if i % 3 == 0:
            damaged = damaged[: rng.randrange(len(whole))]
        else:
            damaged[rng.choice([rng.randrange(len(whole)), rng.randrange(300)])] ^= 1 << rng.randrange(8)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            setup(str(tmp_path / "damaged.npz"))
            survived += 1
        except DataError as error:
            assert str(error).isprintable()  # noqa: PT017 - most, not all, are refused
    assert survived < 60, "checksums find damage to the pixels; only headers of the archive may change unseen"
