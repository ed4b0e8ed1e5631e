"""Numbers and labels as targets: what is refused, what is doubted, and data of a person's own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from digit_targets import labels, numbers
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_nas.data.adapt import AdaptedData, Loaders
from lightning_nas.data.arrays import ArrayData
from lightning_nas.data.base import SearchData
from lightning_nas.data.images import NPZ, Digits
from lightning_nas.data.text import TextData
from lightning_nas.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
ROW = np.random.default_rng(1).normal(size=(60, 2))
FLAGS = (ROW > 0).astype(np.int64)


def changed(array, value, *place):
    array = array.copy()
    array[place] = value
    return array


def set_up(data: SearchData, targets: str) -> SearchData:
    data.expect(targets)
    data.setup()
    return data


@pytest.mark.parametrize(
    ("targets", "arrays", "message"),
    [
        ("classes", (X, ROW[:, 0]), r"y_train has the type 'float64'; .* numbers need task=regression"),
        ("classes", (X, FLAGS), r"y_train has the shape \(60, 2\); .* several labels .* need task=multilabel"),
        ("labels", (X, np.arange(60) % 10), r"y_train has the shape \(60,\); several labels are 0 or 1 for each"),
        ("labels", (X, FLAGS[:, :1]), r"y_train has the shape \(60, 1\); .* T of at least 2; .* task=classification"),
        ("labels", (X, changed(FLAGS, 3, 7, 1)), r"y_train has 3 in sample 7 for label 1; labels are 0 or 1"),
        ("labels", (X, ROW), r"y_train has -?\d.* in sample 0 for label 0; .* numbers task=regression"),
        ("labels", (X, FLAGS * [1, 0]), r"label 1 is 0 in every training sample; leave it out"),
        ("numbers", (X, changed(ROW, np.nan, 5, 1)), r"NaN or infinite, first in sample 5, target 1"),
        ("numbers", (X, changed(ROW, np.inf, 5, 0)), r"NaN or infinite, first in sample 5, target 0"),
        ("numbers", (X, ROW * [1, 0] + [0, 7]), r"target 1 is 7 in every training sample, so there is nothing"),
        ("numbers", (X, ROW * 1e200), r"target \d is too large for a mean"),
        ("numbers", (X, ROW > 0), r"y_train has the type 'bool'; legal are numbers; of yes or no task=multilabel"),
        ("numbers", (X, np.array(["a"] * 60)), r"y_train has the type '<U1'; legal are numbers"),
        ("numbers", (X, ROW[:50]), r"y_train has 50 targets for 60 images"),
        ("numbers", (X, np.zeros((60, 2, 2))), r"y_train has the shape \(60, 2, 2\); numbers are \(N,\) or \(N, T\)"),
        ("numbers", (X, ROW, X, ROW[:, :1]), r"unlike numbers of numbers: train 2, test 1"),
        ("labels", (X, FLAGS, X, np.c_[FLAGS, FLAGS]), r"unlike numbers of labels: train 2, test 4"),
        ("numbers", (X, ROW, X[:1], ROW[:1]), r"the test part has one sample; R2 needs two"),
    ],
)
def test_what_does_not_fit_is_one_line(targets: str, arrays: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        set_up(ArrayData(*arrays, batch_size=4), targets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "targets", "message"),
    [
        (lambda: Digits(), "numbers", r"the task needs one or many numbers .*, and Digits has one class a sample"),
        (lambda: Digits(), "words", r"the task needs words .*, and Digits has one class"),
        (lambda: TextData(), "labels", r"the task needs yes or no .*, and TextData has words"),
        (lambda: ArrayData(X, ROW, num_classes=3), "numbers", r"have 2 numbers a sample, but num_classes .* is 3"),
        (
            lambda: ArrayData(X, FLAGS, search_classes=2),
            "labels",
            r"search_classes .* is 2, but the targets are labels",
        ),
    ],
)
def test_data_without_such_targets_say_so(data: Callable[[], SearchData], targets: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        set_up(data(), targets)


def test_data_set_up_for_another_task_are_refused() -> None:
    data = set_up(ArrayData(X, ROW, batch_size=4), "numbers")
    data.expect("numbers")
    with pytest.raises(DataError, match=r"was set up with one or many numbers .*; legal: data.expect\('labels'\)"):
        data.expect("labels")


@pytest.mark.parametrize(
    ("targets", "y", "doubt"),
    [
        ("labels", np.eye(3)[np.arange(60) % 3], "every training sample has exactly one label"),
        ("labels", np.c_[FLAGS, np.ones(60)], "label 2 is 1 in every training sample"),
        ("numbers", np.arange(60) % 10, "the target has 10 values, all whole numbers; of classes task=classification"),
    ],
)
def test_doubts_are_kept(targets: str, y, doubt: str) -> None:
    assert any(said.startswith(doubt) for said in set_up(ArrayData(X, y, batch_size=4), targets).doubts)


def test_a_value_far_from_all_others_is_doubted() -> None:
    x, y = np.repeat(X, 10, 0), np.repeat(ROW, 10, 0)
    data = set_up(ArrayData(x, changed(y, 1e6, 0, 1), x, y, batch_size=4), "numbers")
    assert any("target 1 has a value" in doubt for doubt in data.doubts)


class Rows(Dataset):
    """Pairs of an image and a list of numbers, in Python's own types."""

    def __init__(self, x, y) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index):
        return torch.from_numpy(self.x[index])[None].float() / 255, self.y[index].tolist()


@pytest.mark.parametrize(("targets", "task"), [("numbers", numbers), ("labels", labels)])
def test_loaders_npz_and_arrays_give_the_same_targets(targets: str, task: Callable, write_npz: Callable) -> None:
    x, y = task(100)
    tensors = TensorDataset(torch.from_numpy(x)[:, None].float() / 255, torch.from_numpy(y))
    sources = [
        ArrayData(x, y, batch_size=8),
        NPZ(path=write_npz(x_train=x, y_train=y), batch_size=8),
        AdaptedData(Loaders(DataLoader(tensors, batch_size=8))),
        AdaptedData(Loaders(DataLoader(Rows(x, y), batch_size=8))),
    ]
    seen = []
    for data in sources:
        set_up(data, targets)
        assert (data.num_classes, data.found["num_classes"]) == (3, 3)
        seen.append(torch.cat([y for _, y in data.evaluation_loader("test")]))
        _, batch = next(iter(data.retrain_loader(lambda: 0)))
        assert (batch.shape, batch.dtype) == ((8, 3), torch.float32)
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    wanted = seen[0] if targets == "labels" else sources[0].scale.restored(seen[0])
    np.testing.assert_allclose(wanted, y[sources[0]._of(searched=False).parts["test"].indices], rtol=1e-6)


def test_subsets_keep_the_targets_of_their_samples() -> None:
    x, y = numbers(100)
    tensors = TensorDataset(torch.from_numpy(x)[:, None].float(), torch.from_numpy(y))
    train, test = Subset(tensors, list(range(70))), Subset(tensors, list(range(70, 100)))
    data = set_up(AdaptedData(Loaders(DataLoader(train, batch_size=8), test=DataLoader(test))), "numbers")
    seen = torch.cat([y for _, y in data.evaluation_loader("test")])
    np.testing.assert_allclose(data.scale.restored(seen), y[70:], rtol=1e-6)


@pytest.mark.parametrize(
    ("y", "targets", "message"),
    [
        ([torch.zeros(2)] * 30 + [torch.zeros(3)] * 30, "numbers", r"sample 30 has 3 targets, sample 0 has 2"),
        (["cat"] * 60, "numbers", r"the target of sample 0 is of the type 'str'; legal is a number, or a list"),
        ([3] * 60, "labels", r"the targets has the shape \(60, 1\); several labels are 0 or 1"),
    ],
)
def test_rows_of_own_data_that_do_not_fit_are_one_line(y: list, targets: str, message: str) -> None:
    pairs = [(torch.rand(1, 8, 8), row) for row in y]
    with pytest.raises(DataError, match=message):
        set_up(AdaptedData(Loaders(DataLoader(pairs, batch_size=4))), targets)
