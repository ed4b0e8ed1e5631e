"""Trials looked up in NAS-Bench-201's table: nothing is trained, the seconds are those of the benchmark's machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lightning_nas.errors import ConfigError
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.trials.engines.base import Engine, Job
from lightning_nas.trials.requests import Request, Response
from lightning_nas.truth.nasbench201 import FILE, VARIABLE, Dataset, Epochs, NasBench201Table, table_file


class TableEngine(Engine):
    """Validation accuracy of the benchmark's trainings for the search; its test accuracy is for the result alone.

    Args:
        job: of which the search space must be NAS-Bench-201's.
        path: the table's file; None: ``nasbench201.npz`` in the folder that LIGHTNING_NAS_DATA names.
        dataset: of the accuracy.
        epochs: of the benchmark's trainings.

    Raises:
        ConfigError: another space, or nobody says where the table is.
        DataError: no such file, or not such a table.
    """

    instant = True

    def __init__(self, job: Job, *, path: str | None = None, dataset: Dataset = "cifar10", epochs: Epochs = 12) -> None:
        space, file = job.space(), table_file(path)
        if not isinstance(space, NASBench201Space):
            raise ConfigError(
                f"engine=table knows the cells of NAS-Bench-201, not search_space={space.name}; "
                "choose search_space=nasbench201 or nasbench201_small, or engine=local"
            )
        if file is None:
            raise ConfigError(
                f"engine=table needs {FILE}: name its folder in the environment variable {VARIABLE}, or the file by "
                "engine.path=FILE"
            )
        self._results = _results(file, space, dataset, epochs)
        self.digest = hashlib.sha256(json.dumps(sorted(self._results.items())).encode()).hexdigest()[:16]
        self._ended: list[Response] = []

    @property
    def slots(self) -> int:
        return 2**16

    def submit(self, request: Request) -> None:
        figure, seconds = self._results[request.architecture.options]
        self._ended.append(Response(request.trial, request.attempt, "finished", (figure,), seconds))

    def finished(self, timeout: float) -> list[Response]:
        del timeout
        ended, self._ended = self._ended, []
        return ended


def _results(
    file: Path, space: NASBench201Space, dataset: Dataset, epochs: Epochs
) -> dict[tuple[str, ...], tuple[float, float]]:
    """Accuracy, 0 to 1, and seconds of training, by the options of the cell."""
    table = NasBench201Table(file, [(dataset, "valid", epochs)], seconds=dataset, option="engine.path")
    return {
        space.from_string(cell).options: (table.accuracy(cell, dataset, "valid", epochs), table.seconds(cell, epochs))
        for cell in table.cells
    }
