import inspect

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_nas.data.adapt import AdaptedData
from lightning_nas.data.arrays import ArrayData
from lightning_nas.data.given import as_search_data
from lightning_nas.data.images import NPZ, Digits
from lightning_nas.errors import DataError


def batches(data):
    """Every batch of a search, of retraining, of validation and of the test, as bytes."""
    data.setup()
    loaders = data.search_loader("epoch", lambda: 0), data.retrain_loader(lambda: 0), data.val_dataloader()
    found = [next(iter(batch.values())) if isinstance(batch, dict) else batch for loader in loaders for batch in loader]
    return [(x.numpy().tobytes(), y.tolist()) for x, y in (*found, *data.test_dataloader())]


OPTIONS = {"flip": True, "crop_padding": 1, "cutout": 2, "batch_size": 8, "seed": 5}


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tested", [True, False])
def test_arrays_equal_a_numpy_file_with_the_same_arrays(dtype, channels, tested, write_npz, labelled):
    arrays = {
        key: value if key[0] == "y" else value.astype(dtype) for key, value in labelled(channels=channels).items()
    }
    if not tested:
        arrays = {key: arrays[key] for key in ("x_train", "y_train")}
    expected = batches(NPZ(path=write_npz(**arrays), **OPTIONS))
    assert batches(ArrayData(*arrays.values(), **OPTIONS)) == expected
    of_tensors = [
        torch.from_numpy(value.transpose(0, 3, 1, 2) if value.ndim == 4 else value) for value in arrays.values()
    ]
    assert batches(as_search_data(of_tensors, **OPTIONS)) == expected


def test_arrays_of_any_memory_layout_are_taken(labelled):
    arrays = list(labelled(channels=1).values())
    expected = batches(ArrayData(*arrays, batch_size=8))
    frozen = [array.copy() for array in arrays]
    for array in frozen:
        array.flags.writeable = False
    reversed_twice = [array[::-1].copy()[::-1] for array in arrays]
    columns = [array[:, None] if array.ndim == 1 else array[..., 0] for array in arrays]
    for same in (frozen, reversed_twice, columns):
        assert batches(ArrayData(*same, batch_size=8)) == expected


X, Y = np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((X.transpose(0, 3, 1, 2), Y), r"x_train has the shape \(40, 3, 8, 8\); .* arrays are .* channels last"),
        ((torch.from_numpy(X), Y), r"x_train has the shape \(40, 8, 8, 3\); .* tensors are .* channels first"),
        ((X.astype(int), Y), r"x_train has the type 'int64'; legal are uint8 .* and floating point"),
        ((X, Y / 2), r"y_train has the type 'float64'; .* numbers need task=regression"),
        ((X, np.eye(2, dtype=int)[Y]), r"y_train has the shape \(40, 2\); .* of one-hot rows take y.argmax\(1\)"),
        ((X, np.eye(2)[Y]), r"y_train has the shape \(40, 2\); .* of one-hot rows take y.argmax\(1\)"),
        ((X, np.array(["a", "b"])[Y]), r"y_train has the type '<U1'; .* np.unique"),
        ((X, Y[:-1]), r"y_train has 39 labels for 40 images"),
        ((X, Y, X[:, :6, :6], Y), r"x_train and x_test differ: train images are \(3, 8, 8\), test images \(3, 6, 6\)"),
        ((X, Y, X, None), r"x_test and y_test belong together"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(arrays, message):
    with pytest.raises(DataError, match=message) as error:
        ArrayData(*arrays).setup()
    assert str(error.value).isprintable()


def loader(count=100):
    return DataLoader(TensorDataset(torch.rand(count, 1, 8, 8), torch.arange(count) % 4), batch_size=8)


def test_every_legal_form_is_taken():
    digits = Digits()
    assert as_search_data(digits) is digits
    data = as_search_data((loader(), [loader(12)], loader(16)), seed=3, val_fraction=0.3)
    data.setup()
    assert isinstance(data, AdaptedData)
    assert (data.seed, data.sizes["val"], data.sizes["test"]) == (3, 12, 16)
    data = as_search_data(loader(), 3, batch_size=5)
    data.setup()
    assert (data.batch_size, sum(data.sizes.values())) == (5, 100)


@pytest.mark.parametrize(
    ("given", "described"),
    [
        (None, "data of the type 'NoneType'"),
        ({"x_train": X, "y_train": Y}, "data of the type 'dict'"),
        ((X, Y, X), "a tuple of 'ndarray, ndarray, ndarray'"),
        ([], "a list of 'nothing'"),
        (([0.0], [1]), "a tuple of 'list, list'"),
        (loader().dataset, "data of the type 'TensorDataset'"),
        ((loader(), loader(), loader(), loader()), "a tuple of 'DataLoader, DataLoader, DataLoader, DataLoader'"),
        ({"a": loader()}, "data of the type 'dict'"),
    ],
)
def test_other_forms_are_refused_with_the_legal_ones(given, described):
    with pytest.raises(DataError) as error:
        as_search_data(given)
    message = str(error.value)
    assert message.startswith(f"{described} cannot be searched on; legal are ")
    for legal in ("LightningDataModule", "(train, val)", "(x_train, y_train)"):
        assert legal in message


def test_options_of_data_that_have_their_own_are_refused():
    with pytest.raises(DataError, match="Digits has its own batch_size; pass them to its constructor"):
        as_search_data(Digits(), batch_size=3)


def test_signatures_name_every_option():
    parameters = inspect.signature(ArrayData).parameters
    assert list(parameters)[:4] == ["x_train", "y_train", "x_test", "y_test"]
    assert {"batch_size", "crop_padding", "flip", "mean", "val_fraction", "seed"} <= set(parameters)
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
