"""The truth of every architecture of a task, where a table has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_nas.experiment.run import Run
from lightning_nas.truth.tabulated import known_table


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
        table = known_table(run.space, run.published) if run.trains_nothing else None
        if table is None:
            return None
        dataset = table.named(run.record["engine"]["dataset"])
        tested = table.tested(dataset)
        return cls(table.source(dataset), max(tested.values()), lambda options: tested[tuple(options)])
