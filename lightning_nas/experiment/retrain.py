"""The retraining stage: the answer's network from scratch or from inherited weights, tested."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import ASGD, Optimizer

from lightning_nas.architecture import Architecture
from lightning_nas.data.checks import check_pixels
from lightning_nas.data.module import ImageData
from lightning_nas.errors import ConfigError, DataError, InputError, NumericalError, shown
from lightning_nas.experiment.inherited import inherit
from lightning_nas.experiment.memory import training_memory, within_memory
from lightning_nas.experiment.rehearsal import check_batch, check_lengths, check_memory, check_training
from lightning_nas.experiment.resume import checkpoint_to_resume
from lightning_nas.experiment.settings import Retraining
from lightning_nas.experiment.tested import tested
from lightning_nas.experiment.trainer import built, in_one_line, make_trainer, stage_seconds
from lightning_nas.export.trained import FILE as TRAINED
from lightning_nas.export.trained import Trained, sizes_of
from lightning_nas.files import write_json
from lightning_nas.ops.cells import DropPath
from lightning_nas.tasks.base import Task
from lightning_nas.training.averaging import NonMonotonicAveraging
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.early_stopping import BestEpoch
from lightning_nas.training.exact import ExactCheckpoint, fit
from lightning_nas.training.learning_rate import range_test
from lightning_nas.training.network import NetworkTraining, origin_of
from lightning_nas.training.seeding import generator, seeded

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)


def retrain(run: Run, architecture: Architecture) -> nn.Module:
    """Train the architecture's network of evaluation size in ``retrain/``, and note its test figure.

    With ``retrain.from=inherited`` it begins with the weights of the search, whose own test figure is noted too.

    The tested network is read from ``retrain/checkpoints/last.ckpt``, where its parameters are ``network.*``.

    Returns:
        The trained network, without what was there for its training alone.

    Raises:
        NumericalError: the training went wrong.
    """
    settings = run.retraining
    num_classes = run.data.num_classes
    sizes = sizes_of(run.home(architecture), num_classes)
    with seeded(run.seed, "retrain"):
        network = _network(run, architecture)
    if settings.from_ == "inherited":
        inherit(run, architecture, network)

    def training(settings: Retraining) -> NetworkTraining:
        return NetworkTraining(
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
            origin=origin_of(architecture, sizes, _task(run)),
        )

    module = training(_with_found_rate(run, training(settings)) if settings.find_lr else settings)
    bars: list[pl.Callback] = [run.bar("retrain")] if run.progress else []
    first: list[pl.Callback] = [NonMonotonicAveraging(settings.average_after)] if settings.average_after else []
    best = BestEpoch(run.task, settings.patience) if settings.patience else None
    first += [best] if best else []
    conditions = {"architecture": architecture.key}
    trainer = make_trainer(run, "retrain", bars, first=first, max_epochs=settings.epochs, conditions=conditions)
    if trainer.is_global_zero:
        architecture.save(run.folder / "architecture.json", sizes)
        write_json(run.folder / "retrain" / "preprocessing.json", run.data.preprocessing().model_dump(mode="json"))
    if settings.from_ == "inherited":
        network.to(trainer.strategy.root_device)
        score = run.task.evaluate(network, run.data.evaluation_loader("test"), num_classes)
        run.figures[f"inherited_{run.task.score_name}"] = score
    loader = run.data.retrain_loader(
        lambda: module.position,
        trainer.global_rank,
        trainer.world_size,
        batch_size=settings.batch_size,
        limit=trainer.limit_train_batches,
        **_of_images(run),
    ).overfitted(trainer.overfit_batches)  # type: ignore[attr-defined]
    of_search = run.checkpoint != "last" and "search" in run.stages
    checkpoint = checkpoint_to_resume(None if of_search else run.checkpoint, trainer, module)
    validation = {"val_dataloaders": run.data.val_dataloader()} if run.data.sizes["val"] else {}
    fit(trainer, module, checkpoint, train_dataloaders=loader, **validation)
    if trainer.is_global_zero:  # the figure is that of the file
        module.load_state_dict(load_checked(ExactCheckpoint.of(trainer).path)["state_dict"])
    network.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    note_test(run, network)
    run.figures |= {"retrain_seconds": stage_seconds(trainer), "retrain_epochs": trainer.current_epoch}
    if best is not None and best.best_epoch is not None:
        run.figures["retrain_best_epoch"] = best.best_epoch + 1
    finished = _without_auxiliary(run, architecture, network.cpu())
    if trainer.is_global_zero:
        keep_trained(run, architecture, finished)
    return finished


def note_test(run: Run, network: nn.Module) -> None:
    """Test a network, and note the figures.

    Raises:
        NumericalError: the figure is not finite.
    """
    # the whole part on every process: a metric that all compute, as torchmetrics wants it, comes out the same
    score, explained = tested(run, network)
    if not math.isfinite(score):
        raise NumericalError(f"the retrained network's test {run.task.score_name} is {score}")
    run.figures[f"test_{run.task.score_name}"] = score
    if explained or run.task.score_name == "acc":
        run.figures["test_samples"] = run.data.sizes["test"]
        run.figures |= explained


def keep_trained(run: Run, architecture: Architecture, network: nn.Module) -> None:
    """Write the file from which the trained network is loaded and exported."""
    figures = {
        name: value
        for name, value in run.figures.items()
        if name.startswith(("test_", "retrain_")) and isinstance(value, (int, float))
    }
    sizes = sizes_of(run.home(architecture), run.data.num_classes)
    Trained(network, architecture, sizes, run.data.preprocessing(), figures).save(run.folder / TRAINED)


def check_retraining(run: Run) -> None:
    """Refuse what the retraining could not do before the search begins.

    Raises:
        ConfigError: an auxiliary loss, dropped paths or label smoothing where there is no such thing.
    """
    settings, of_images = run.retraining, _of_images(run)
    trainer = built(run.trainer, max_epochs=settings.epochs, logger=False)
    if settings.patience and not (run.data.sizes["val"] and trainer.limit_val_batches):
        raise ConfigError(
            f"retrain.patience={settings.patience} needs a validation part, and none is read; legal: null"
        )
    architecture = run.space.sample(generator(run.seed, "check"))
    try:
        run.home(architecture)
    except (InputError, TypeError, ValueError) as reason:
        raise _no_network(run, reason) from None
    try:
        with torch.device("meta"):
            network = _network(run, architecture)
    except InputError as reason:
        of = f"retrain.auxiliary_weight={settings.auxiliary_weight}" if settings.auxiliary_weight else "retraining"
        raise ConfigError(f"{of}: {reason}") from None
    except (TypeError, ValueError, RuntimeError, IndexError) as reason:
        raise _no_network(run, reason) from None
    if settings.drop_path and not any(isinstance(module, DropPath) for module in network.modules()):
        raise ConfigError(
            f"retrain.drop_path={settings.drop_path}: networks of {run.space.name} have no paths to drop; legal: 0"
        )
    check_optimizer(settings, network.parameters())
    try:
        loader = run.data.retrain_loader(lambda: 0, 0, trainer.world_size, batch_size=settings.batch_size, **of_images)
    except DataError as reason:
        if settings.batch_size is None:
            raise
        found = str(reason).partition(";")[0]
        raise ConfigError(f"retrain.batch_size={settings.batch_size}: {found}; lower it") from None
    batch = loader.batches[0]
    said = f"retrain.batch_size={len(batch[0])}"
    check_batch(said, batch[0], lambda: network)
    memory = training_memory(run.trainer)
    check_memory("the network of retraining", said, batch, trainer, memory, network)
    validated = run.data.sizes["val"]
    validation = len(run.data.evaluation_loader("val", 0, trainer.world_size)) if validated else 0
    check_lengths(trainer, len(loader), validation)


def check_optimizer(settings: Retraining, parameters: Iterable[nn.Parameter] | None = None) -> None:
    """Refuse an optimiser or a schedule that cannot train.

    Args:
        settings: of the retraining.
        parameters: of the network; None while it is not known.

    Raises:
        ConfigError: it refuses its arguments, or averages are asked for that it does not take.
    """
    if settings.patience and settings.average_after:
        raise ConfigError(
            f"retrain.patience={settings.patience} and retrain.average_after={settings.average_after} each choose the "
            "weights at the end; legal: one of them null"
        )
    make = _at_rate(settings, 0.1) if settings.find_lr else settings.optimizer
    optimizer = check_training("retrain.", make, settings.scheduler, settings.epochs, parameters)
    if settings.average_after and not isinstance(optimizer, ASGD):
        raise ConfigError(
            f"retrain.average_after={settings.average_after} needs retrain.optimizer._target_=torch.optim.ASGD, not "
            f"{type(optimizer).__name__}; legal: null"
        )


def _with_found_rate(run: Run, module: NetworkTraining) -> Retraining:
    """The settings with the learning rate of a range test, whose curve is kept; every process finds the same."""
    accelerator = getattr(run.trainer, "keywords", {}).get("accelerator", "auto")

    def loader(trial: NetworkTraining) -> Iterable[Any]:
        size = run.retraining.batch_size
        return run.data.retrain_loader(lambda: trial.position, batch_size=size, **_of_images(run))

    try:
        rate, curve = range_test(module, loader, accelerator=accelerator)
    except NumericalError as reason:
        raise NumericalError(f"retrain.find_lr: {reason}; set retrain.optimizer.lr yourself") from None
    CSVTable(run.folder / "retrain" / "learning_rate.csv").write(curve)
    log.info("the learning rate of the retraining is %.3g, by a range test", rate)
    run.figures["retrain_lr"] = rate
    return replace(run.retraining, optimizer=_at_rate(run.retraining, rate))


def _at_rate(settings: Retraining, rate: float) -> Callable[[list[nn.Parameter]], Optimizer]:
    make: Callable[..., Optimizer] = settings.optimizer  # the keyword is checked before the search
    return partial(make, lr=rate)


def _of_images(run: Run) -> dict[str, Any]:
    """Settings of the training that only images have.

    Raises:
        ConfigError: they are set, and the data are no images.
        DataError: a cutout that is larger than the images.
    """
    cutout = run.retraining.cutout
    if cutout and not isinstance(run.data, ImageData):
        raise ConfigError(f"retrain.cutout={cutout}: the data are no images; legal: 0")
    if cutout:
        check_pixels(f"retrain.cutout={cutout}", cutout, min(run.data.shape[1:]), run.data.shape[1:])
    return {"cutout": cutout} if cutout else {}


def _no_network(run: Run, reason: Exception) -> ConfigError:
    """What to say of a space that makes no network of the size that is retrained."""
    sizes = run.record["search_space"].get("evaluation")
    of = f"search_space={run.space.name}" if sizes is None else f"search_space.evaluation={shown(sizes)}"
    return ConfigError(f"{of} gives no network to retrain: {in_one_line(reason)}")


def _network(run: Run, architecture: Architecture) -> nn.Module:
    auxiliary = {"auxiliary": True} if run.retraining.auxiliary_weight else {}
    return within_memory(
        "the network of retraining",
        lambda: run.home(architecture).network(architecture, num_classes=run.data.num_classes, **auxiliary),
        memory=training_memory(run.trainer),
    )


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
