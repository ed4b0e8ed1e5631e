"""The table of the space ``tiny``: this library trained every network of it with several seeds, see benchmarks/tiny."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.data.numpy_file import read_npz
from lightning_nas.data.tiny import TEST, TRAIN, TinyImages
from lightning_nas.errors import DataError, shown
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.tiny import OPTIONS, TinySpace
from lightning_nas.truth.benchmark import Benchmark, Results, Split

FILE = Path(__file__).with_name("tiny.npz")
EPOCHS, LAYERS = 4, 6
NETWORKS = tuple(product(OPTIONS, repeat=LAYERS))
"""Options of each network, in the order of the table's rows."""
VALIDATION = round(0.3 * TRAIN)
_LIMIT = 2**22  # bytes


class TinyTable(Benchmark):
    """Accuracies of all 729 networks of ``search_space=tiny``, which come with the library.

    The networks were trained by ``benchmarks/tiny/make.py``: 4 epochs on 10,500 images of ``dataset=tiny``, by SGD with
    a rate that falls as a cosine from 0.2. The validation part, 4,500 images, was scored after each epoch, the test
    part, 5,000 images, at the end.

    A search sees the training of the first seed, as if it had trained each network once; what its answer is worth is
    the mean test accuracy over all seeds. Seconds are of one core, for the whole training or the share of its epochs.

    The file has one row a network, in the order of :data:`NETWORKS`: ``val`` (networks, seeds, epochs) and ``test``
    (networks, seeds), numbers of images that were classified rightly, ``seconds`` (networks, seeds), ``params``,
    ``macs``, and ``ms``, the latency on the machine that trained them, 0 where it was not measured.
    """

    title = "the table of tiny"
    members = "the networks of tiny"
    spaces = ("tiny",)
    datasets = {"tiny": "Fashion-MNIST at 14 px"}  # noqa: RUF012 - a constant, as in the base class
    lengths = tuple(range(1, EPOCHS + 1))
    usual = EPOCHS
    one_training = True

    @classmethod
    def has(cls, space: SearchSpace) -> bool:
        return isinstance(space, TinySpace) and space.mixed == OPTIONS

    @classmethod
    def place(cls, path: str | None) -> Path:
        return FILE if path is None else Path(path).expanduser()

    def fits(self, data: Any, dataset: str) -> bool:
        return isinstance(data, TinyImages)

    def accuracies(self, dataset: str, split: Split, epochs: int) -> Results:
        """Means over the seeds; on the test part only after all epochs.

        Raises:
            DataError: test accuracies of fewer epochs, which were not taken; or the file is no such table.
        """
        if split == "valid":
            return _by_options(self._counts("val")[:, :, epochs - 1].mean(1) / VALIDATION)
        if epochs != EPOCHS:
            raise DataError(f"{self.asked}: the test part was scored after {EPOCHS} epochs alone, not after {epochs}")
        return _by_options(self._counts("test").mean(1) / TEST)

    def seen(self, dataset: str, epochs: int) -> tuple[Results, Results]:
        seconds = self._read("seconds")
        if seconds.dtype.kind != "f" or seconds.ndim != 2 or not (np.isfinite(seconds) & (seconds > 0)).all():
            raise DataError(f"seconds of {shown(self.file)} must be above 0, a row for each network")
        share = seconds[:, 0].astype(float) * epochs / EPOCHS
        return _by_options(self._counts("val")[:, 0, epochs - 1] / VALIDATION), _by_options(share)

    def twice(self, dataset: str, epochs: int) -> tuple[Results, Results] | None:
        """Test accuracies of the first two seeds; None for fewer epochs than all, and for a table of one seed."""
        counts = self._counts("test")
        if epochs != EPOCHS or counts.shape[1] < 2:
            return None
        return _by_options(counts[:, 0] / TEST), _by_options(counts[:, 1] / TEST)

    def _read(self, name: str) -> np.ndarray[Any, Any]:
        """A column, which has a row for each network."""
        arrays = read_npz(self.file, ("networks", name), named=f"{self.option}=FILE", limit=_LIMIT)
        names = arrays.get("networks", np.array([])).tolist()
        if names != [" ".join(options) for options in NETWORKS] or name not in arrays:
            raise DataError(f"{shown(self.file)} is not a table of tiny: its networks, or {name}, are missing")
        if len(arrays[name]) != len(NETWORKS):
            raise DataError(f"{name} of {shown(self.file)} must have {len(NETWORKS)} rows, got {len(arrays[name])}")
        return arrays[name]

    def _counts(self, name: str) -> np.ndarray[Any, Any]:
        counts, most = self._read(name), VALIDATION if name == "val" else TEST
        form = (EPOCHS,) if name == "val" else ()
        if counts.dtype.kind != "u" or counts.ndim != 2 + len(form) or counts.shape[2:] != form or not counts.size:
            raise DataError(f"{name} of {shown(self.file)} has the wrong form: {counts.dtype}, {counts.shape}")
        if counts.max() > most:
            raise DataError(
                f"{name} of {shown(self.file)} must be numbers of images up to {most}; one is {counts.max()}"
            )
        return counts


def _by_options(values: np.ndarray[Any, Any]) -> dict[tuple[str, ...], float]:
    return dict(zip(NETWORKS, values.tolist(), strict=True))
