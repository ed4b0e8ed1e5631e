"""The truth a rank check compares with, read from NAS-Bench-201's table: every cell was trained by its authors."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightning_nas.architecture import Architecture
from lightning_nas.data.numpy_file import read_npz
from lightning_nas.errors import ConfigError, DataError, shown
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nasbench201.operations import OPTIONS
from lightning_nas.spaces.nasbench201.space import NASBench201Space

Dataset = Literal["cifar10", "cifar100", "imagenet16"]
Split = Literal["valid", "test"]
Epochs = Literal[12, 200]

VARIABLE, FILE = "LIGHTNING_NAS_DATA", "nasbench201.npz"
DATASETS: dict[Dataset, str] = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16": "ImageNet16-120"}
_PREFIX = {"cifar10": "c10", "cifar100": "c100", "imagenet16": "in16"}
_TIMED = _PREFIX | {"cifar10": "c10valid"}
_OPTION, _LIMIT = "callbacks.rank_check.truth.path", 2**27


class NasBench201Table:
    """Accuracies of all 15,625 cells, the mean over the benchmark's training seeds.

    The file is a numpy ``.npz`` with ``arch``, the benchmark's strings, and columns such as ``c10_test200``: percent on
    CIFAR-10's test images after 200 epochs. It is not trusted: only its columns of numbers are read, and checked.

    Args:
        path: the file.
        columns: (data set, split, epochs) of the accuracies wanted.
        seconds: the data set whose training times are wanted, if any; CIFAR-10's are of the half that the benchmark
            searches on.
        option: of the configuration, by which another file is named.

    Raises:
        DataError: no file, a damaged one, or one that is not such a table.
    """

    def __init__(
        self,
        path: Path,
        columns: Iterable[tuple[Dataset, Split, Epochs]],
        *,
        seconds: Dataset | None = None,
        option: str = _OPTION,
    ) -> None:
        names = {column: f"{_PREFIX[column[0]]}_{column[1]}{column[2]}" for column in columns}
        timed = [f"{_TIMED[seconds]}_train_seconds200"] if seconds else []
        where, wanted = shown(path), ("arch", *names.values(), *timed)
        arrays = read_npz(path, wanted, named=f"{option}=FILE", limit=_LIMIT)
        if missing := [name for name in wanted if name not in arrays]:
            raise DataError(f"{where} has no {missing[0]}: it is not a table of NAS-Bench-201")
        cells = _cells(arrays["arch"], where)
        self._rows = {cell: row for row, cell in enumerate(cells)}
        self._columns = {column: _percent(arrays[name], f"{name} of {where}") for column, name in names.items()}
        self._seconds = _positive(arrays[timed[0]], f"{timed[0]} of {where}") if timed else None

    @property
    def cells(self) -> tuple[str, ...]:
        """The strings of all cells, in the file's order."""
        return tuple(self._rows)

    def accuracy(self, cell: str, dataset: Dataset, split: Split = "test", epochs: Epochs = 200) -> float:
        """The share of images classified rightly, 0 to 1, by the cell of this string."""
        return float(self._columns[dataset, split, epochs][self._rows[cell]]) / 100

    def seconds(self, cell: str, epochs: int) -> float:
        """What so many epochs of the benchmark's training of a cell take: a share of the 200 that were timed."""
        assert self._seconds is not None, "the table was read without times"
        return float(self._seconds[self._rows[cell]]) * epochs / 200


class TabulatedTruth:
    """Accuracy of each architecture's cell in NAS-Bench-201's table; nothing is trained.

    It is the accuracy of the paper's network on the paper's data, whatever the size of the searched network and
    whatever the images: for a search on other data it says how the ranking carries over.

    Args:
        path: the table's file; None: ``nasbench201.npz`` in the folder that LIGHTNING_NAS_DATA names.
        dataset: of the accuracy. For CIFAR-100 and ImageNet16-120 "valid" is half of the original test set.
        split: images the accuracy is of.
        epochs: of the authors' trainings.
    """

    def __init__(
        self, *, path: str | None = None, dataset: Dataset = "cifar10", split: Split = "test", epochs: Epochs = 200
    ) -> None:
        self.path, self.column = path, (dataset, split, epochs)

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: Any, task: Any, seed: int
    ) -> list[float]:
        """The tabulated accuracies, 0 to 1, in order.

        Raises:
            ConfigError: another space, or nobody says where the table is.
            DataError: no such file, or not such a table.
        """
        del data, task, seed
        if not isinstance(space, NASBench201Space):
            raise ConfigError(
                f"rank_check.truth=table knows the cells of NAS-Bench-201, not search_space={space.name}; "
                "choose search_space=nasbench201 or nasbench201_small, or rank_check.truth=stand_alone"
            )
        file = table_file(self.path)
        if file is None:
            raise ConfigError(
                f"rank_check.truth=table needs {FILE}: name its folder in the environment variable {VARIABLE}, "
                f"or the file by {_OPTION}=FILE"
            )
        table = NasBench201Table(file, [self.column])
        return [table.accuracy(space.to_string(architecture), *self.column) for architecture in architectures]


def table_file(path: str | None) -> Path | None:
    """Where the table should be: ``path``, or in the folder of the environment variable; None if neither is given."""
    if path is not None:
        return Path(path)
    folder = os.environ.get(VARIABLE)
    return Path(folder) / FILE if folder else None


def tabulated(space: SearchSpace, architecture: Architecture, path: str | None) -> dict[str, float]:
    """Test accuracy after 200 epochs by name of the data set; empty for another space, or where there is no table.

    Raises:
        DataError: there is one, and it cannot be used.
    """
    file = table_file(path)
    if not isinstance(space, NASBench201Space) or file is None or not file.exists():
        return {}
    table, cell = (
        NasBench201Table(file, [(dataset, "test", 200) for dataset in DATASETS]),
        space.to_string(architecture),
    )
    return {name: table.accuracy(cell, dataset) for dataset, name in DATASETS.items()}


def _cells(strings: np.ndarray[Any, Any], where: str) -> list[str]:
    found: list[str] = strings.tolist() if strings.dtype.kind == "U" and strings.ndim == 1 else []
    legal = {f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in itertools.product(OPTIONS, repeat=6)}
    if len(found) != len(legal) or set(found) != legal:
        wrong = next((cell for cell in found if cell not in legal), None)
        said = f"{shown(wrong, 120)} is none" if wrong else f"{len(set(found))} are there"
        raise DataError(f"arch of {where} must be the {len(legal)} cells of NAS-Bench-201, as text; {said}")
    return found


def _positive(values: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    _one_a_cell(values, where)
    if not (np.isfinite(values) & (values > 0)).all():
        raise DataError(f"{where} must be seconds, above 0")
    return values


def _one_a_cell(values: np.ndarray[Any, Any], where: str) -> None:
    if values.dtype.kind != "f" or values.shape != (len(OPTIONS) ** 6,):
        raise DataError(f"{where} must be one number a cell; got the type {values.dtype} and the shape {values.shape}")


def _percent(values: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    _one_a_cell(values, where)
    if not ((values >= 0) & (values <= 100)).all():  # false for NaN too
        worst = values[~((values >= 0) & (values <= 100))][0]
        raise DataError(f"{where} must be percent, 0 to 100; one is {worst}")
    return values
