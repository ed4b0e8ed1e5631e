"""The truth of every architecture of a task, where a table has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_nas.architecture import Architecture
from lightning_nas.experiment.run import Run
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.truth.nasbench201 import DATASETS, NasBench201Table, table_file


@dataclass(frozen=True)
class Known:
    """The test accuracies of a table.

    Attributes:
        source: of the accuracies, in words.
        best: the highest of the space.
        accuracy: of an architecture by its options, 0 to 1.
    """

    source: str
    best: float
    accuracy: Callable[[Sequence[str]], float]

    @classmethod
    def of(cls, run: Run) -> Known | None:
        """The table in which a run looks results up; None for a run that trains its networks.

        Raises:
            DataError: the table cannot be read.
        """
        space, file = run.space, table_file(run.published)
        if not run.trains_nothing or not isinstance(space, NASBench201Space) or file is None:
            return None
        dataset = run.record["engine"]["dataset"]
        table = NasBench201Table(file, [(dataset, "test", 200)])
        names = [decision.name for decision in space.decisions]

        def accuracy(options: Sequence[str]) -> float:
            chosen = Architecture(space.name, tuple(zip(names, options, strict=True)))
            return table.accuracy(space.to_string(chosen), dataset)

        best = max(table.accuracy(cell, dataset) for cell in table.cells)
        return cls(f"{DATASETS[dataset]}, 200 epochs, read from NAS-Bench-201", best, accuracy)
