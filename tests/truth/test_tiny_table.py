"""The table of the space tiny: what the library shows of it, against the columns of the file."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_nas.data.images import Digits
from lightning_nas.data.tiny import TEST, TinyImages
from lightning_nas.errors import ConfigError, DataError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.chains.tiny import OPTIONS, TinySpace
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.multilabel import MultiLabel
from lightning_nas.tasks.regression import Regression
from lightning_nas.testing.toys import ToyData
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.lookup import TableEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.requests import Request
from lightning_nas.truth.tabulated import TabulatedTruth, known_table
from lightning_nas.truth.tiny import EPOCHS, FILE, VALIDATION, TinyTable

SPACE = TinySpace()
REAL = Path(os.environ.get("LIGHTNING_NAS_DATA") or "nowhere") / "fashion_mnist_20k_5k.npz"


def columns() -> dict[str, Any]:
    with np.load(FILE, allow_pickle=False) as file:
        return dict(file)


def at(row: int) -> Any:
    """The architecture of a row."""
    names = [decision.name for decision in SPACE.decisions]
    return SPACE.validate(dict(zip(names, str(columns()["networks"][row]).split(), strict=True)))


def table(path: Path | None = None) -> TinyTable:
    return TinyTable(SPACE, path and str(path), asked="engine=table", option="engine.path")


def test_the_file_is_small_and_whole() -> None:
    file = columns()
    assert FILE.stat().st_size < 2**20
    assert file["val"].shape[2] == EPOCHS
    assert file["val"].max() <= VALIDATION
    assert file["test"].max() <= TEST  # also: none is missing


@pytest.mark.parametrize("row", [0, 1, 3, 364, 727, 728])
def test_costs_are_those_of_the_networks(row: int) -> None:
    file, network = columns(), SPACE.network(at(row))
    assert file["params"][row] == count_params(network)
    assert file["macs"][row] == count_macs(network, SPACE.input_shape)


@pytest.mark.parametrize("row", [0, 400, 728])
def test_results_are_those_of_the_row(row: int) -> None:
    file, options = columns(), at(row).options
    assert table().tested("tiny")[options] == pytest.approx(file["test"][row].mean() / TEST)
    for epochs in (1, 4):
        accuracies, seconds = table().seen("tiny", epochs)
        assert accuracies[options] == file["val"][row, 0, epochs - 1] / VALIDATION
        assert seconds[options] == pytest.approx(file["seconds"][row, 0] * epochs / EPOCHS)
        found = table().accuracies("tiny", "valid", epochs)
        assert found[options] == pytest.approx(file["val"][row, :, epochs - 1].mean() / VALIDATION)


def test_a_rank_check_reads_the_table_for_its_images_alone() -> None:
    some = [at(row) for row in (3, 5, 700)]
    found = TabulatedTruth()(SPACE, some, TinyImages(root="data"), None, 0)
    assert found == pytest.approx([columns()["test"][row].mean() / TEST for row in (3, 5, 700)])
    with pytest.raises(ConfigError, match=r"on Fashion-MNIST at 14 px, but .* is on Digits; choose dataset=tiny"):
        TabulatedTruth()(SPACE, some, Digits(), None, 0)
    assert TabulatedTruth(any_data=True)(SPACE, some, Digits(), None, 0) == found
    both = TabulatedTruth(any_data=True).again(SPACE, some, None, None, 0)
    if columns()["test"].shape[1] > 1:
        assert both is not None
        assert both[1] == [columns()["test"][row, 1] / TEST for row in (3, 5, 700)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "cifar10"}, "has no results on 'cifar10'; legal for search_space=tiny: tiny"),
        ({"epochs": 12}, "has no trainings of 12 epochs; legal for search_space=tiny: 1, 2, 3, 4"),
    ],
)
def test_what_the_table_lacks_is_named(options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TabulatedTruth(any_data=True, **options)(SPACE, [at(0)], None, None, 0)
    with pytest.raises(ConfigError, match=said):
        TableEngine(job(), **options)


def test_other_operations_have_no_table() -> None:
    space = TinySpace(operations=("conv_3x3", "skip"))
    assert known_table(space, None) is None
    with pytest.raises(ConfigError, match=r"cells of NAS-Bench-201 and the networks of tiny"):
        TabulatedTruth(any_data=True)(space, [space.sample(torch.Generator())], None, None, 0)


def test_test_accuracies_are_known_at_the_end_alone() -> None:
    with pytest.raises(DataError, match="scored after 4 epochs alone, not after 2"):
        TabulatedTruth(any_data=True, epochs=2)(SPACE, [at(0)], None, None, 0)
    assert TabulatedTruth(any_data=True, epochs=2, split="valid")(SPACE, [at(0)], None, None, 0)


def test_an_answer_is_looked_up() -> None:
    assert table().tested_of(at(9)) == {"Fashion-MNIST at 14 px": table().tested("tiny")[at(9).options]}


def job() -> ObjectsJob:
    return ObjectsJob(ToyData(), SPACE, Classification(), Child(epochs=1))


def test_a_trial_sees_the_first_seed_and_a_part_costs_its_share() -> None:
    engine, file, row = TableEngine(job()), columns(), 17
    engine.submit(Request(0, 1, at(row), seed=0))
    engine.submit(Request(1, 1, at(row), seed=0, epochs=1))
    engine.submit(Request(2, 1, at(row), seed=0, epochs=3, after=1))
    whole, first, rest = engine.finished(0.0)
    assert whole.curve == (file["val"][row, 0, 3] / VALIDATION,)
    assert first.curve == (file["val"][row, 0, 0] / VALIDATION,)
    assert rest.curve == (file["val"][row, 0, 2] / VALIDATION,)
    seconds = float(file["seconds"][row, 0])
    assert [whole.seconds, first.seconds, rest.seconds] == pytest.approx([seconds, seconds / 4, seconds / 2])


ILLEGAL: dict[str, tuple[dict[str, Any], str]] = {
    "no networks": ({"networks": np.array(["a"])}, "is not a table of tiny"),
    "no column": ({"test": None}, "or test, are missing"),
    "fewer rows": ({"test": np.zeros((3, 1), dtype=np.uint16)}, "must have 729 rows, got 3"),
    "floats": ({"test": np.zeros((729, 1))}, "wrong form: float64"),
    "no seed": ({"test": np.zeros((729, 0), dtype=np.uint16)}, "wrong form"),
    "a matrix too much": ({"test": np.zeros((729, 1, 4), dtype=np.uint16)}, "wrong form"),
    "missing": ({"test": np.full((729, 1), 2**16 - 1, dtype=np.uint16)}, "up to 5000; one is 65535"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, name: str) -> None:
    changes, said = ILLEGAL[name]
    np.savez(tmp_path / "t.npz", **{k: v for k, v in (columns() | changes).items() if v is not None})
    with pytest.raises(DataError, match=said):
        table(tmp_path / "t.npz").tested("tiny")


def test_seconds_below_nothing_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **columns() | {"seconds": -np.ones((729, 1), dtype=np.float32)})
    with pytest.raises(DataError, match="must be above 0"):
        table(tmp_path / "t.npz").seen("tiny", 4)


def test_the_order_of_rows_is_that_of_the_options() -> None:
    names = [" ".join(OPTIONS[digit] for digit in map(int, np.base_repr(row, 3).zfill(6))) for row in range(729)]
    assert columns()["networks"].tolist() == names


@pytest.mark.skipif(not REAL.is_file(), reason="LIGHTNING_NAS_DATA names no folder with fashion_mnist_20k_5k.npz")
def test_a_network_trained_again_gets_what_the_table_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another processor the numbers of training differ in their last bits, so the accuracy differs a little."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks" / "tiny")
    import make

    row = 123
    val, test, _ = make.train(str(REAL), at(row).options, 0)
    assert val[-1] / VALIDATION == pytest.approx(columns()["val"][row, 0, -1] / VALIDATION, abs=0.02)
    assert test / TEST == pytest.approx(columns()["test"][row, 0] / TEST, abs=0.02)
    sys.modules.pop("make")


def test_other_tasks_have_no_accuracies() -> None:
    with pytest.raises(ConfigError, match="has accuracies, and the task asks for r2; choose"):
        TabulatedTruth(any_data=True)(SPACE, [at(0)], None, Regression(), 0)
    with pytest.raises(ConfigError, match="has acc of every trial, and the task asks for map; legal: task=classif"):
        RandomSearch(SPACE, MultiLabel(), engine=TableEngine(job()))
