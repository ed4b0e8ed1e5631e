"""The retraining stage: the answer from scratch, tested."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.module import ImageData
from lightning_nas.errors import ConfigError, InputError, NumericalError
from lightning_nas.experiment.resume import checkpoint_to_resume
from lightning_nas.experiment.trainer import make_trainer, stage_seconds
from lightning_nas.ops.cells import DropPath
from lightning_nas.tasks.base import Task
from lightning_nas.training.averaging import NonMonotonicAveraging
from lightning_nas.training.network import NetworkTraining
from lightning_nas.training.seeding import generator, seeded

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run


def retrain(run: Run, architecture: Architecture) -> nn.Module:
    """Train the architecture's network of evaluation size from scratch in ``retrain/``, and note its test figure.

    Returns:
        The trained network, without what was there for its training alone.

    Raises:
        NumericalError: the training went wrong.
    """
    settings = run.retraining
    num_classes = run.data.num_classes
    with seeded(run.seed, "retrain"):
        network = _network(run, architecture)
    module = NetworkTraining(
        network,
        _task(run),
        num_classes,
        seed=run.seed,
        optimizer=settings.optimizer,
        scheduler=settings.scheduler,
        clip=settings.clip,
        auxiliary_weight=settings.auxiliary_weight,
        drop_path=settings.drop_path,
        drop_path_interval=settings.drop_path_interval,
    )
    bars: list[pl.Callback] = [run.bar("retrain")] if run.progress else []
    averaging = [NonMonotonicAveraging(settings.average_after)] if settings.average_after else []
    conditions = {"architecture": architecture.key}
    trainer = make_trainer(run, "retrain", [*averaging, *bars], max_epochs=settings.epochs, conditions=conditions)
    if trainer.is_global_zero:
        architecture.save(run.folder / "architecture.json")
    of_images: dict[str, Any] = {"cutout": settings.cutout} if settings.cutout else {}
    loader = run.data.retrain_loader(
        lambda: module.position,
        trainer.global_rank,
        trainer.world_size,
        batch_size=settings.batch_size,
        limit=trainer.limit_train_batches,
        **of_images,
    )
    of_search = run.checkpoint != "last" and "search" in run.stages
    checkpoint = checkpoint_to_resume(None if of_search else run.checkpoint, trainer, module)
    trainer.fit(module, loader, run.data.val_dataloader(), ckpt_path=checkpoint, weights_only=True)
    network.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    for average in averaging:
        average.use(trainer)
    # the whole part on every process: a metric that all compute, as torchmetrics wants it, comes out the same
    score = run.task.evaluate(network, run.data.evaluation_loader("test"), num_classes)
    if not math.isfinite(score):
        raise NumericalError(f"the retrained network's test {run.task.score_name} is {score}")
    run.figures[f"test_{run.task.score_name}"] = score
    if run.task.score_name == "acc":
        run.figures["test_samples"] = run.data.sizes["test"]
    run.figures["retrain_seconds"] = stage_seconds(trainer)
    return _without_auxiliary(run, architecture, network.cpu())


def check_retraining(run: Run) -> None:
    """Refuse what the retraining could not do before the search begins.

    Raises:
        ConfigError: an auxiliary loss, dropped paths or label smoothing where there is no such thing.
    """
    settings = run.retraining
    if settings.cutout and not isinstance(run.data, ImageData):
        raise ConfigError(f"retrain.cutout={settings.cutout}: the data are no images; legal: 0")
    architecture = run.space.sample(generator(run.seed, "check"))
    try:
        with torch.device("meta"):
            network = _network(run, architecture)
    except InputError as reason:
        raise ConfigError(f"retrain.auxiliary_weight={settings.auxiliary_weight}: {reason}") from None
    if settings.drop_path and not any(isinstance(module, DropPath) for module in network.modules()):
        raise ConfigError(
            f"retrain.drop_path={settings.drop_path}: networks of {run.space.name} have no paths to drop; legal: 0"
        )


def _network(run: Run, architecture: Architecture) -> nn.Module:
    auxiliary = {"auxiliary": True} if run.retraining.auxiliary_weight else {}
    return run.home(architecture).network(architecture, num_classes=run.data.num_classes, **auxiliary)


def _task(run: Run) -> Task:
    """The run's, with the label smoothing of the retraining."""
    return run.retrain_task or run.task


def _without_auxiliary(run: Run, architecture: Architecture, trained: nn.Module) -> nn.Module:
    if not run.retraining.auxiliary_weight:
        return trained
    with torch.device("meta"):
        network = run.home(architecture).network(architecture, num_classes=run.data.num_classes)
    state = trained.state_dict()
    network.load_state_dict({name: state[name] for name in network.state_dict()}, assign=True)
    return network
