"""The retraining stage: the answer from scratch, tested."""

from __future__ import annotations

import math

import pytorch_lightning as pl
from hydra.utils import instantiate
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.progress import SearchProgress
from lightning_nas.children.averaging import NonMonotonicAveraging
from lightning_nas.children.training import ChildModule
from lightning_nas.errors import NumericalError
from lightning_nas.stages.prepare import Run, make_trainer, stage_seconds
from lightning_nas.stages.resume import checkpoint_to_resume
from lightning_nas.training.seeding import seeded


def retrain(run: Run, architecture: Architecture) -> nn.Module:
    """Train the architecture's network from scratch in ``retrain/``, and note its test figure.

    Raises:
        NumericalError: the training went wrong.
    """
    settings = run.config.retrain
    num_classes = run.data.num_classes
    with seeded(run.seed, "retrain"):
        network = run.space.evaluation().network(architecture, num_classes=num_classes)
    module = ChildModule(
        network,
        run.task,
        num_classes,
        seed=run.seed,
        optimizer=instantiate(settings.optimizer),
        scheduler=instantiate(settings.scheduler) if settings.scheduler else None,
        clip=settings.clip,
    )
    bars: list[pl.Callback] = [SearchProgress()] if (run.config.callbacks or {}).get("progress") else []
    averaging = [NonMonotonicAveraging(settings.average_after)] if settings.average_after else []
    conditions = {"architecture": architecture.key}
    trainer = make_trainer(run, "retrain", [*averaging, *bars], max_epochs=settings.epochs, conditions=conditions)
    if trainer.is_global_zero:
        architecture.save(run.folder / "architecture.json")
    loader = run.data.retrain_loader(
        lambda: module.position,
        trainer.global_rank,
        trainer.world_size,
        batch_size=settings.batch_size,
        limit=trainer.limit_train_batches,
    )
    named = run.config.ckpt_path
    of_search = named != "last" and "search" in run.config.stages
    checkpoint = checkpoint_to_resume(None if of_search else named, trainer, module)
    trainer.fit(module, loader, run.data.val_dataloader(), ckpt_path=checkpoint, weights_only=True)
    network.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    for average in averaging:
        average.use(trainer)
    # the whole part on every process: a metric that all compute, as torchmetrics wants it, comes out the same
    score = run.task.evaluate(network, run.data.evaluation_loader("test"), num_classes)
    if not math.isfinite(score):
        raise NumericalError(f"the retrained network's test {run.task.score_name} is {score}")
    run.result[f"test_{run.task.score_name}"] = score
    network.cpu()
    run.result["retrain_seconds"] = stage_seconds(trainer)
    return network
