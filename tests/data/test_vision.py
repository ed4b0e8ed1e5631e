import hashlib
import pickle
import struct

import numpy as np
import pytest
from torchvision import datasets

from lightning_nas.data.vision import CIFAR10, CIFAR100, FashionMNIST
from lightning_nas.errors import DataError

AS_IS = {"flip": False, "batch_size": 4}
rng = np.random.default_rng(0)


@pytest.fixture
def fashion(tmp_path):
    """Fashion-MNIST's files as its authors give them, with other pictures."""
    folder, kept = tmp_path / "FashionMNIST" / "raw", {}
    folder.mkdir(parents=True)
    for prefix, count in (("train", 100), ("t10k", 20)):
        x, y = rng.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) % 10).astype(np.uint8)
        kept[prefix] = x, y
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + x.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + y.tobytes())
    return tmp_path, kept


def test_fashion_mnist_is_read_with_its_own_test_part(fashion):
    root, kept = fashion
    data = FashionMNIST(root=str(root), mean=[0.0], std=[1.0], **AS_IS)
    data.setup()
    assert (data.shape, data.num_classes) == ((1, 28, 28), 10)
    assert (data.sizes["test"], sum(data.sizes.values())) == (20, 120)
    x, y = next(iter(data.test_dataloader()))
    np.testing.assert_allclose(x[:, 0], kept["t10k"][0][:4] / 255, atol=1e-6)
    assert y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["cut", "gone", "header"])
def test_damaged_fashion_mnist_is_one_line(fashion, how):
    root, _ = fashion
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    content = file.read_bytes()
    file.unlink() if how == "gone" else file.write_bytes(content[:500] if how == "cut" else b"\xff" + content[1:])
    with pytest.raises(DataError, match=r"no usable FashionMNIST in .*; set root=FOLDER .* or download it") as error:
        FashionMNIST(root=str(root), **AS_IS).setup()
    assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100, FashionMNIST])
def test_missing_data_say_what_to_pass_and_nothing_is_fetched(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(kind.source, "download", lambda self: pytest.fail("tried to download"))
    data = kind(root=str(tmp_path), **AS_IS)
    data.prepare_data()
    with pytest.raises(DataError, match=r"set root=FOLDER \(dataset.root=FOLDER .*, or download it with download=true"):
        data.setup()
    with pytest.raises(DataError, match=r"needs root=FOLDER .* with download=true"):
        kind(root=None, **AS_IS).setup()


def test_download_is_torchvisions_and_happens_when_data_are_prepared(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: asked.append(self.root))
    with pytest.raises(DataError, match="no usable CIFAR10"):
        CIFAR10(root=str(tmp_path), download=True, **AS_IS).prepare_data()
    assert asked == [str(tmp_path)]


def test_cifar10_is_read_from_its_authors_files(tmp_path, monkeypatch):
    folder, kept = tmp_path / "cifar-10-batches-py", {}
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name, count):
        kept[name] = rng.integers(0, 256, (count, 3, 32, 32), np.uint8)
        return write(name, {"data": kept[name].reshape(count, -1), "labels": [i % 10 for i in range(count)]})

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch(f"data_batch_{i}", 50) for i in (1, 2)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch", 20)])
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    data = CIFAR10(root=str(tmp_path), mean=[0.0] * 3, std=[1.0] * 3, **AS_IS)
    data.setup()
    assert (data.shape, data.num_classes, data.sizes["test"]) == ((3, 32, 32), 10, 20)
    np.testing.assert_allclose(next(iter(data.test_dataloader()))[0], kept["test_batch"][:4] / 255, atol=1e-6)
