"""The progress bar of a search."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

ORDER = ("train/loss", "arch/loss", "val/acc", "latency/expected_ms", "rank/kendall_tau")


class SearchProgress(RichProgressBar):
    """Epoch, batch, and the few figures that say how a search is going; the final state of each stage is left."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        shown = super().get_metrics(trainer, pl_module)
        first = [key for key in ORDER if key in shown]
        rest = [key for key in shown if key not in ORDER and key != "v_num" and not key.endswith("_top5")]
        return {key: shown[key] for key in first + rest}
