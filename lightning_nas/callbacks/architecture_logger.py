"""Sampled and derived architectures, recorded during the search."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytorch_lightning as pl
from annotated_types import Interval
from pytorch_lightning.loggers import WandbLogger

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.base import RecordingCallback, is_due, show
from lightning_nas.ranges import Count
from lightning_nas.report.figures import probability_heatmap
from lightning_nas.strategies.base import SearchModule
from lightning_nas.training.seeding import generator

COLUMNS = ("epoch", "step", "kind", "key", "score", "cost", "choices")


class ArchitectureLogger(RecordingCallback):
    """Sampled and derived architectures with score and cost, and the probabilities of all options.

    Writes ``architectures.csv`` (kind ``sampled``, ``derived``, or ``candidate`` for those the answer was chosen from)
    and ``probabilities.csv``; shows the first as a W&B table and the second as a heat map. The score is that of the
    strategy (inherited weights, recalibrated batch norm), the cost is the sum over the latency table.

    Args:
        every_n_epochs: epochs between two records; the last epoch is always recorded.
        samples: architectures drawn from the strategy for each record.

    Example:
        >>> ArchitectureLogger(samples=4).samples
        4
    """

    files: ClassVar = {
        "architectures.csv": COLUMNS,
        "probabilities.csv": ("epoch", "group", "choice", "option", "probability"),
    }

    def __init__(self, every_n_epochs: Count = 1, samples: Annotated[int, Interval(ge=0, le=1000)] = 2) -> None:
        self.every_n_epochs, self.samples = every_n_epochs, samples

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if not is_due(trainer, self.every_n_epochs):
            return
        derived = pl_module.derive()
        score = pl_module.score(derived)
        pl_module.log("derived/score", score, rank_zero_only=True)
        self._record(pl_module, "derived", derived, score)
        rng = generator(pl_module.seed, "architecture logger", pl_module.position)
        for _ in range(self.samples):
            sampled = pl_module.sample(rng)
            self._record(pl_module, "sampled", sampled, pl_module.score(sampled))
        self._record_probabilities(pl_module)

    def _record(self, module: SearchModule, kind: str, architecture: Architecture, score: float) -> None:
        cost = None if module.table is None else module.space.cost(architecture, module.table)
        row = (module.current_epoch, module.position, kind, architecture.key, score, cost, str(architecture))
        self.record("architectures.csv", dict(zip(COLUMNS, row, strict=True)))

    def _record_probabilities(self, module: SearchModule) -> None:
        for group, rows in module.probabilities().items():
            for choice, row in enumerate(rows.tolist()):
                for option, probability in zip(module.space.gate_options[group], row, strict=True):
                    self.record(
                        "probabilities.csv",
                        {"epoch": module.current_epoch, "group": group, "choice": choice, "option": option}
                        | {"probability": probability},
                    )

    def record_candidates(self, trainer: pl.Trainer, module: SearchModule) -> None:
        """Record the architectures the answer was chosen from; called after the search, when the table is complete."""
        for architecture, score in module.scored.items():
            self._record(module, "candidate", architecture, score)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows: list[list[Any]] = [list(row.values()) for row in self.tables["architectures.csv"].read()]
                logger.log_table("architectures", columns=list(COLUMNS), data=rows, step=module.position)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        if "architectures.csv" not in self.tables:
            return
        values = {group: rows.cpu() for group, rows in pl_module.probabilities().items()}
        picture = probability_heatmap(values, pl_module.space.gate_options)
        show(trainer, "arch/probabilities", picture, pl_module.position)
