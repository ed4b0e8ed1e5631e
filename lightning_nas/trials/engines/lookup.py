"""The engine that reads results from the table of NAS-Bench-201 instead of training."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from lightning_nas.errors import ConfigError, DataError, shown
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.requests import Request, Response
from lightning_nas.truth.nasbench201 import FILE, VARIABLE, Dataset, Epochs, NasBench201Table, table_file


class TableEngine(Engine):
    """Look up validation accuracy and training seconds of the benchmark; its test accuracy is only used for the result.

    The table has trainings of 12 and of 200 epochs, each with a schedule of its own. A search that trains in parts may
    ask for either; one of 200 epochs after one of 12 takes the seconds of all 200, since that training is another.

    Args:
        job: its search space must be that of NAS-Bench-201.
        path: file of the table; None for ``nasbench201.npz`` in the folder $LIGHTNING_NAS_DATA.
        dataset: data set of the accuracy.
        epochs: length of the benchmark's trainings.

    Raises:
        ConfigError: another search space, or neither ``path`` nor the environment variable is set.
        DataError: the file is missing or is not such a table.
    """

    instant = True
    lengths = get_args(Epochs)

    def __init__(self, job: Job, *, path: str | None = None, dataset: Dataset = "cifar10", epochs: Epochs = 12) -> None:
        space, file = job.space(), _file(path)
        if not isinstance(space, NASBench201Space):
            raise ConfigError(
                f"engine=table has only the cells of NAS-Bench-201, not search_space={space.name}; "
                "choose search_space=nasbench201 or nasbench201_small, or engine=local"
            )
        self._epochs, self._read = epochs, functools.cache(functools.partial(_results, file, space, dataset))
        self.digest = hashlib.sha256(json.dumps(sorted(self._read(epochs).items())).encode()).hexdigest()[:16]
        self._ended: list[Response] = []

    @classmethod
    def check(cls, *, path: str | None = None, **_: Any) -> None:
        _file(path)

    @property
    def slots(self) -> int:
        return 2**16

    def submit(self, request: Request) -> None:
        figure, seconds = self._read(request.epochs or self._epochs)[request.architecture.options]
        self._ended.append(Response(request.trial, request.attempt, "finished", (figure,), seconds))

    def finished(self, timeout: float) -> list[Response]:
        del timeout
        ended, self._ended = self._ended, []
        return ended


def _file(path: str | None) -> Path:
    file = table_file(path)
    if file is None:
        raise ConfigError(
            f"engine=table needs {FILE}: set the environment variable {VARIABLE} to its folder, or engine.path=FILE"
        )
    if not file.is_file():
        raise DataError(f"there is no file {shown(file)}; pass engine.path=FILE")
    return file


def _results(
    file: Path, space: NASBench201Space, dataset: Dataset, epochs: Epochs
) -> dict[tuple[str, ...], tuple[float, float]]:
    """Accuracy, 0 to 1, and training seconds, by the options of the cell."""
    table = NasBench201Table(file, [(dataset, "valid", epochs)], seconds=dataset, option="engine.path")
    return {
        space.from_string(cell).options: (table.accuracy(cell, dataset, "valid", epochs), table.seconds(cell, epochs))
        for cell in table.cells
    }
