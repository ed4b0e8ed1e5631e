"""The search stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from hydra.utils import instantiate
from pytorch_lightning.loggers import WandbLogger

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.stages.prepare import Run, make_trainer, stage_seconds
from lightning_nas.stages.resume import checkpoint_to_resume
from lightning_nas.strategies.base import SearchModule
from lightning_nas.training.seeding import seeded


def search(run: Run, table: LatencyTable | None) -> Architecture:
    """Search, write ``architecture.json``, and note what the result needs.

    Raises:
        ConfigError: the strategy cannot work on this space.
        NumericalError: the search went wrong; no architecture is written.
    """
    module = build_strategy(run, table)
    callbacks: list[pl.Callback] = [instantiate(node) for node in (run.config.callbacks or {}).values() if node]
    conditions = {} if table is None else {"latency table": table.digest[:16]}
    trainer = make_trainer(run, run.folder, callbacks, mirror=True, conditions=conditions)
    checkpoint = checkpoint_to_resume(run.config.ckpt_path, trainer, module)
    with closed(trainer):
        trainer.fit(module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        module.check_parameters()
        module.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
        architecture: Architecture = trainer.strategy.broadcast(module.answer())
    if trainer.is_global_zero:
        for callback in callbacks:
            if isinstance(callback, ArchitectureLogger):
                callback.record_candidates(module, module.scored)
            if isinstance(callback, RankCheck):
                run.result["kendall_tau"] = callback.tau
        architecture.save(run.folder / "architecture.json")
    run.result["search_seconds"] = stage_seconds(trainer)
    return architecture


@contextmanager
def closed(trainer: pl.Trainer) -> Iterator[None]:
    """Close the W&B run at the end, well or badly: else the next run of this process would go on writing into it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        if trainer.is_global_zero and any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            import wandb

            wandb.finish(code)


def build_strategy(run: Run, table: LatencyTable | None) -> SearchModule:
    """The strategy on the run's space, its weights drawn from the seed."""
    if not isinstance(run.space, WeightSharingSpace):
        raise ConfigError(
            f"this strategy shares weights and search_space={run.space.name} has no supernet; "
            "choose a space that has one, e.g. fbnet or fbnet_small"
        )
    with seeded(run.seed, "supernet"):
        module: SearchModule = instantiate(run.config.strategy)(run.space, run.task, table, seed=run.seed)
    return module
