"""Runs of two forked gloo processes on one machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lightning_nas.data.base import SearchData
from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.training import digest, fit


def two_ranks(make: Callable[[], SearchModule], data: SearchData, folder: Path) -> list[dict[str, Any]]:
    """Train one epoch on two ranks and return the digests of each rank's final state."""
    fit(
        make(),
        data,
        folder,
        epochs=1,
        every=1000,
        callbacks=[_Tell(folder)],
        devices=2,
        strategy="ddp_notebook_find_unused_parameters_true",
    )
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


class _Tell(Callback):
    """Write the digests of each rank's state at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        content = {
            "arch": digest(pl_module.arch_parameters()),
            "weights": digest(pl_module.weight_parameters()),
            "sample": str(pl_module.sample(pl_module.generator("test"))),
            "gates": digest(dict(pl_module.gates(pl_module.generator("test")).values)),
        }
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(content))
