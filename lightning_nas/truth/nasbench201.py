"""The table of NAS-Bench-201, whose authors trained every cell (arXiv:2001.00326)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lightning_nas.architecture import Architecture
from lightning_nas.data.numpy_file import read_npz
from lightning_nas.errors import DataError, shown
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nasbench201.operations import OPTIONS
from lightning_nas.spaces.nasbench201.space import NASBench201Space, options_of
from lightning_nas.truth.benchmark import Benchmark, Results, Split

Dataset = Literal["cifar10", "cifar100", "imagenet16"]
Epochs = Literal[12, 200]

VARIABLE, FILE = "LIGHTNING_NAS_DATA", "nasbench201.npz"
DATASETS: dict[Dataset, str] = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16": "ImageNet16-120"}
_PREFIX = {"cifar10": "c10", "cifar100": "c100", "imagenet16": "in16"}
_TIMED = _PREFIX | {"cifar10": "c10valid"}
_OPTION, _LIMIT = "callbacks.rank_check.truth.path", 2**27


class NasBench201Table(Checked):
    """Accuracies of all 15,625 cells, averaged over the benchmark's training seeds.

    The file is a numpy ``.npz`` with ``arch``, the benchmark's strings, and columns such as ``c10_test200``: accuracy
    in percent on the test images of CIFAR-10 after 200 epochs. The file is not trusted: only its columns of numbers are
    read, and they are checked.

    Args:
        path: the file.
        columns: (data set, split, epochs) of the accuracies to read.
        seconds: data set whose training times to read; None for no times. Those of CIFAR-10 are for the half of the
            training images that the benchmark searches on.
        option: configuration key of the file, for error messages.

    Raises:
        DataError: the file is missing, damaged, or not such a table.
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
        """Strings of all cells, in the order of the file."""
        return tuple(self._rows)

    def accuracy(self, cell: str, dataset: Dataset, split: Split = "test", epochs: Epochs = 200) -> float:
        """Accuracy of a cell, 0 to 1."""
        return float(self._columns[dataset, split, epochs][self._rows[cell]]) / 100

    def seconds(self, cell: str, epochs: int) -> float:
        """Duration of the benchmark's training of a cell in seconds, in proportion to the timed 200 epochs."""
        assert self._seconds is not None, "the table was read without times"
        return float(self._seconds[self._rows[cell]]) * epochs / 200


class NASBench201(Benchmark):
    """The table of NAS-Bench-201 as :class:`~lightning_nas.truth.benchmark.Benchmark`.

    Accuracies are means over the authors' training seeds. For CIFAR-100 and ImageNet16-120 "valid" is half of the
    original test set.
    """

    title = "NAS-Bench-201"
    members = "the cells of NAS-Bench-201"
    spaces = ("nasbench201", "nasbench201_small")
    datasets = {str(name): title for name, title in DATASETS.items()}  # noqa: RUF012 - a constant, as in the base class
    lengths = get_args(Epochs)
    usual = 12
    needed = f"{FILE}: set the environment variable {VARIABLE} to its folder"

    @classmethod
    def has(cls, space: SearchSpace) -> bool:
        return isinstance(space, NASBench201Space)

    @classmethod
    def place(cls, path: str | None) -> Path | None:
        return table_file(path)

    def fits(self, data: Any, dataset: str) -> bool:
        from lightning_nas.data.vision import CIFAR10, CIFAR100

        return isinstance(data, {"cifar10": (CIFAR10,), "cifar100": (CIFAR100,), "imagenet16": ()}[dataset])

    def accuracies(self, dataset: Any, split: Split, epochs: Any) -> Results:
        table = NasBench201Table(self.file, [(dataset, split, epochs)], option=self.option)
        return {options_of(cell): table.accuracy(cell, dataset, split, epochs) for cell in table.cells}

    def tested_of(self, architecture: Architecture) -> dict[str, float]:
        """The three accuracies of one cell, in one reading of the file."""
        assert isinstance(self.space, NASBench201Space)
        cell = self.space.to_string(architecture)
        table = NasBench201Table(self.file, [(dataset, "test", 200) for dataset in DATASETS], option=self.option)
        return {name: table.accuracy(cell, dataset) for dataset, name in DATASETS.items()}

    def seen(self, dataset: Any, epochs: Any) -> tuple[Results, Results]:
        table = NasBench201Table(self.file, [(dataset, "valid", epochs)], seconds=dataset, option=self.option)
        cells = {options_of(cell): cell for cell in table.cells}
        accuracies = {options: table.accuracy(cell, dataset, "valid", epochs) for options, cell in cells.items()}
        return accuracies, {options: table.seconds(cell, epochs) for options, cell in cells.items()}

    def twice(self, dataset: Any, epochs: int) -> tuple[Results, Results] | None:
        """Of two of the authors' trainings of 200 epochs, on the validation images; None for 12 epochs.

        Of CIFAR-100 and ImageNet16-120 these are the whole of the original test images, as the table has them.
        """
        name = f"{_PREFIX[dataset]}_{'valid' if dataset == 'cifar10' else 'valtest'}200_seeds"
        arrays = read_npz(self.file, ("arch", name), named=f"{self.option}=FILE", limit=_LIMIT)
        if epochs != 200 or name not in arrays:
            return None
        where = shown(self.file)
        options = [options_of(cell) for cell in _cells(arrays["arch"], where)]
        first, second = (_percent(arrays[name][:, i], f"{name} of {where}") / 100 for i in range(2))
        return dict(zip(options, first.tolist(), strict=True)), dict(zip(options, second.tolist(), strict=True))


def table_file(path: str | None) -> Path | None:
    """File of the table: ``path``, or in the folder of the environment variable; None if neither is given."""
    if path is not None:
        return Path(path).expanduser()
    folder = os.environ.get(VARIABLE)
    return Path(folder) / FILE if folder else None


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
        raise DataError(f"{where} must be one number per cell, got the type {values.dtype} and shape {values.shape}")


def _percent(values: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    _one_a_cell(values, where)
    if not ((values >= 0) & (values <= 100)).all():  # false for NaN too
        worst = values[~((values >= 0) & (values <= 100))][0]
        raise DataError(f"{where} must be percent, 0 to 100; one is {worst}")
    return values
