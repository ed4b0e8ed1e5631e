"""The table of all trials of a search that trains children."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from lightning_nas.callbacks.base import RecordingCallback
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.trials.book import Trial

COLUMNS = ("trial", "key", "reward", "figure", "epochs", "cost", "seconds", "failed", "choices")


class TrialLogger(RecordingCallback):
    """All trials with reward, cost and the strategy's notes, in the order in which the search learned from them.

    Writes ``trials.csv``, and after a resume writes it again from the ledger if it was damaged; the notes of a strategy
    on its proposals (``parent``, ``version``, ...) are the last columns. Shows the table in W&B at the end. The figure
    is that of the task after the last epoch, the cost is the sum over the latency table.

    Example:
        >>> TrialLogger().files["trials.csv"][:3]
        ('trial', 'key', 'reward')
    """

    files: ClassVar = {"trials.csv": COLUMNS}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._written = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrialSearch)
        rows = self._rows(pl_module, pl_module.history[self._written :])
        self._written = len(pl_module.history)
        self.tables["trials.csv"].extend(rows)

    def _rows(self, search: TrialSearch, trials: Sequence[tuple[Trial, float]]) -> list[dict[str, Any]]:
        rows = []
        for trial, reward in trials:
            taken, figure = trial.architecture, trial.curve[-1] if trial.curve else None
            cost, epochs = search.cost(taken), len(trial.curve)
            row = (trial.number, taken.key, reward, figure, epochs, cost, trial.seconds, trial.reason, str(taken))
            rows.append(dict(zip(COLUMNS, row, strict=True)) | trial.info)
        return rows

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = self.tables["trials.csv"].read()
                columns = list(rows[0]) if rows else list(COLUMNS)
                logger.log_table("trials", columns=columns, data=[list(row.values()) for row in rows])

    def again(self, file: str) -> list[dict[str, Any]]:
        search = self._trainer.lightning_module
        assert isinstance(search, TrialSearch)
        return self._rows(search, search.history)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._written = self.tables["trials.csv"].rows
