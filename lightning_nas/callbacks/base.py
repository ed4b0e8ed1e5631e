"""Base class of callbacks that record tables, and the display of pictures in loggers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from lightning_nas.signature import Checked
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.exact import go_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RecordingCallback(Checked, Callback):
    """Write tables into the folder of the run; after a resume they continue from the rows that the checkpoint knows.

    The rows are on the disk before the checkpoint, and a resume is refused if they are not there any more.

    Attributes:
        files: the columns of each CSV file, by its name.
    """

    files: ClassVar[Mapping[str, tuple[str, ...]]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        names = self.files if trainer.is_global_zero else ()
        self._trainer = trainer
        self.tables = {name: CSVTable(Path(trainer.default_root_dir) / name, self.files[name]) for name in names}

    def record(self, file: str, row: Mapping[str, Any]) -> None:
        """Append a row to one of the files, on the first rank."""
        if file not in self.files:
            raise KeyError(f"{type(self).__name__}.files declares no {file}")
        if file in self.tables:
            self.tables[file].append(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": {name: table.position() for name, table in self.tables.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, table in self.tables.items():
            if name in state_dict["rows"]:  # else the run was begun without this table
                go_on(self._trainer, table, state_dict["rows"][name], partial(self.again, name))

    def again(self, file: str) -> list[dict[str, Any]] | None:
        """All rows of a file, made from the restored search where that is possible; by default it is not."""
        del file
        return None


def is_due(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether something that happens every n epochs, and in the last one, happens in this epoch."""
    done = trainer.current_epoch + 1
    return done % every_n_epochs == 0 or done == trainer.max_epochs


def show(trainer: pl.Trainer, key: str, figure: Figure, step: int) -> None:
    """Send a picture to the W&B and TensorBoard loggers of a trainer."""
    picture = None
    for logger in trainer.loggers:
        if isinstance(logger, (WandbLogger, TensorBoardLogger)) and trainer.is_global_zero:
            picture = picture or _as_image(figure)
            if isinstance(logger, WandbLogger):
                logger.log_image(key, [picture], step=step)
            else:
                import numpy as np

                logger.experiment.add_image(key, np.asarray(picture), step, dataformats="HWC")


def _as_image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")
