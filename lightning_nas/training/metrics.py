"""The logger of every run: ``metrics.csv`` in the folder of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from lightning_nas.training.csv_table import CSVTable


class MetricsFile(Logger):
    """Write every logged value to a CSV file with the columns epoch, step and one per key.

    ``step`` counts batches. The file holds no time of day, so that two equal runs write equal files.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.table = CSVTable(path, ("epoch", "step"))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the folder of the run has ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        if values:
            epoch = metrics.get("epoch")
            self.table.append({"epoch": None if epoch is None else int(epoch), "step": step, **values})
