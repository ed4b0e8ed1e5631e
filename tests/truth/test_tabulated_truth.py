import itertools
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_nas.data.images import NPZ, Digits
from lightning_nas.data.vision import CIFAR10, CIFAR100
from lightning_nas.errors import ConfigError, DataError
from lightning_nas.spaces.nasbench201.operations import OPTIONS
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.testing.toys import ToySpace
from lightning_nas.truth.nasbench201 import NasBench201Table
from lightning_nas.truth.tabulated import TabulatedTruth, known_table

CELLS = [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in itertools.product(OPTIONS, repeat=6)]
SPACE = NASBench201Space("any name", image_size=8, in_channels=1, channels=4, cells=(1,))
# of the published table, read there by hand: (row, cell, column, percent)
RESNET = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
PUBLISHED: list[tuple[str, Any, float]] = [
    (FIRST, ("cifar10", "test", 200), 85.863333),
    (FIRST, ("cifar100", "valid", 200), 52.7),
    (FIRST, ("imagenet16", "test", 12), 17.0),
    (RESNET, ("cifar10", "test", 200), 93.66),
    (RESNET, ("cifar10", "valid", 12), 82.834),
    (RESNET, ("imagenet16", "test", 200), 44.033333),
]
DATA = os.environ.get("LIGHTNING_NAS_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="LIGHTNING_NAS_DATA names no folder")


def arrays() -> dict[str, Any]:
    """A table in another order than that of the options, with accuracies that tell the rows apart."""
    order = np.random.default_rng(0).permutation(len(CELLS))
    percent = {f"{d}_test200": order / 200 + i for i, d in enumerate(("c10", "c100", "in16"))}
    return {"arch": np.array([CELLS[i] for i in order]), **percent}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTNING_NAS_DATA", str(tmp_path))
    return tmp_path


def save(folder: Path, **changes: Any) -> Path:
    np.savez(folder / "nasbench201.npz", **{k: v for k, v in (arrays() | changes).items() if v is not None})
    return folder / "nasbench201.npz"


def ask(path: Path | None = None, **options: Any) -> list[float]:
    cells = [SPACE.from_string(CELLS[i]) for i in (7, 15_624, 0)]
    return TabulatedTruth(path=path and str(path), any_data=True, **options)(SPACE, cells, None, None, 0)


def test_accuracies_are_found_by_the_cells_string_in_any_order_of_rows(folder: Path) -> None:
    file = save(folder)
    assert ask() == ask(file) == pytest.approx([0.07 / 200, 156.24 / 200, 0.0])
    assert ask(dataset="imagenet16") == pytest.approx([0.02 + 0.07 / 200, 0.02 + 156.24 / 200, 0.02])
    table = known_table(SPACE, None)
    assert table is not None
    said = table.tested_of(SPACE.from_string(CELLS[200]))
    assert said == pytest.approx({"CIFAR-10": 0.01, "CIFAR-100": 0.02, "ImageNet16-120": 0.03})


@needs_data
@pytest.mark.parametrize(("cell", "column", "percent"), PUBLISHED)
def test_the_published_table_is_read_as_it_stands(cell: str, column: Any, percent: float) -> None:
    dataset, split, epochs = column
    truth = TabulatedTruth(dataset=dataset, split=split, epochs=epochs, any_data=True)
    assert truth(SPACE, [SPACE.from_string(cell)], None, None, 0) == pytest.approx([percent / 100])


@needs_data
def test_the_best_cells_have_the_papers_accuracies() -> None:
    table = NasBench201Table(
        Path(str(DATA)) / "nasbench201.npz", [(d, "test", 200) for d in ("cifar10", "cifar100", "imagenet16")]
    )
    best = [max(table.accuracy(cell, d) for cell in CELLS) for d in ("cifar10", "cifar100", "imagenet16")]
    assert [round(100 * accuracy, 2) for accuracy in best] == [94.37, 73.51, 47.31]


def test_nothing_is_told_where_there_is_no_table_or_another_space(folder: Path) -> None:
    assert known_table(SPACE, None) is None
    assert known_table(SPACE, str(folder / "elsewhere.npz")) is None
    save(folder)
    assert known_table(ToySpace(), None) is None


def test_another_space_is_refused(folder: Path) -> None:
    save(folder)
    with pytest.raises(ConfigError, match=r"not search_space=toy.*rank_check.truth=stand_alone"):
        TabulatedTruth()(ToySpace(), [ToySpace().best], None, None, 0)


@pytest.mark.parametrize(
    ("dataset", "fits"), [("cifar10", {CIFAR10}), ("cifar100", {CIFAR100}), ("imagenet16", set[type]())]
)
def test_a_search_on_other_data_is_refused(folder: Path, dataset: Any, fits: set[type]) -> None:
    save(folder)
    truth, cell = TabulatedTruth(dataset=dataset), [SPACE.from_string(CELLS[0])]
    for data in (Digits(), NPZ(), CIFAR10(), CIFAR100(), None):
        if type(data) in fits:
            assert len(truth(SPACE, cell, data, None, 0)) == 1
            continue
        with pytest.raises(ConfigError, match=rf"is on {type(data).__name__};.*any_data=true") as caught:
            truth(SPACE, cell, data, None, 0)
        assert (f"dataset={dataset}" in str(caught.value)) == bool(fits)


def test_without_a_table_it_is_said_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_NAS_DATA", raising=False)
    with pytest.raises(ConfigError, match="environment variable LIGHTNING_NAS_DATA"):
        ask()
    monkeypatch.setenv("LIGHTNING_NAS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"no file '.*nasbench201.npz'; pass callbacks.rank_check.truth.path=FILE"):
        ask()


def damaged(values: Any, row: int, value: float) -> Any:
    return np.where(np.arange(len(CELLS)) == row, value, values)


ILLEGAL: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no cells": (lambda: {"arch": None}, "has no arch: it is not a table"),
    "no column": (lambda: {"c10_test200": None}, "has no c10_test200"),
    "fewer rows": (lambda: {"arch": np.array(CELLS[1:])}, "15624 are there"),
    "a cell twice": (lambda: {"arch": np.array([CELLS[1], *CELLS[1:]])}, "15624 are there"),
    "a foreign cell": (lambda: {"arch": np.array(["|max_pool~0|", *CELLS[1:]])}, r"'\|max_pool~0\|' is none"),
    "bytes": (lambda: {"arch": np.array(CELLS, dtype="S")}, "as text"),
    "a matrix of cells": (lambda: {"arch": np.array(CELLS)[None]}, "as text"),
    "another length": (lambda: {"c10_test200": np.zeros(3)}, r"shape \(3,\)"),
    "text for numbers": (lambda: {"c10_test200": np.array(CELLS)}, "one number per cell, got the type <U"),
    "complex": (lambda: {"c10_test200": np.zeros(len(CELLS), dtype=complex)}, "the type complex128"),
    "nan": (lambda: {"c10_test200": damaged(np.ones(len(CELLS)), 9, np.nan)}, "percent, 0 to 100; one is nan"),
    "negative": (lambda: {"c10_test200": damaged(np.ones(len(CELLS)), 9, -1)}, "percent, 0 to 100; one is -1"),
    "above 100": (lambda: {"c10_test200": damaged(np.ones(len(CELLS)), 0, 101)}, "percent, 0 to 100; one is 101"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_table_that_is_none_is_refused_in_one_line(folder: Path, name: str) -> None:
    make, said = ILLEGAL[name]
    save(folder, **make())
    with pytest.raises(DataError, match=said) as caught:
        ask()
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["arch", "c10_test200"])
def test_a_pickled_column_is_refused_and_does_not_run(folder: Path, name: str) -> None:
    canary = folder / "canary"
    save(folder, **{name: np.array([Canary(canary)] * len(CELLS), dtype=object)})
    with pytest.raises(DataError, match="pickled objects"):
        ask()
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N."])
def test_a_file_of_another_kind_is_refused(folder: Path, content: bytes) -> None:
    (folder / "nasbench201.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a numpy"):
        ask()


def test_a_file_cut_short_or_too_large_is_refused(folder: Path) -> None:
    file = save(folder)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(DataError, match="is cut off"):
        ask()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("arch.npy", "w") as member:
        for _ in range(129):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="legal: at most 134217728"):
        ask()


@needs_data
def test_two_trainings_of_the_table_agree_as_their_columns_do() -> None:
    with np.load(Path(str(DATA)) / "nasbench201.npz") as table:
        chosen = np.random.default_rng(0).choice(len(CELLS), 50, replace=False)
        cells, columns = table["arch"][chosen], table["c100_valtest200_seeds"][chosen]
    about = SPACE, [SPACE.from_string(str(cell)) for cell in cells], None, None, 0
    found = TabulatedTruth(dataset="cifar100", any_data=True).again(*about)
    assert pytest.approx(columns[:, :2] / 100) == np.array(found).T
    assert TabulatedTruth(epochs=12, any_data=True).again(*about) is None
