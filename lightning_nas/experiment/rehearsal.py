"""Rehearsal of a run: whatever would fail in the middle of a stage is tried before the first one begins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.data.base import SearchData
from lightning_nas.data.loaders import limited
from lightning_nas.errors import ConfigError, shown
from lightning_nas.experiment.memory import check_training_memory
from lightning_nas.experiment.trainer import in_one_line
from lightning_nas.ops.outputs import output_of
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.tasks.base import Batch
from lightning_nas.training.schedules import OverEpochs
from lightning_nas.training.seeding import generator
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.truth.short_training import ShortTraining


def check_lengths(trainer: pl.Trainer, training: int, validation: int) -> None:
    """Refuse shares of an epoch below one batch, and a validation that never comes.

    Args:
        trainer: of the stage.
        training: batches of an epoch.
        validation: batches of a validation; 0 where there is none.

    Raises:
        ConfigError: names the flag and the number of batches.
    """
    overfits = trainer.overfit_batches > 0  # type: ignore[attr-defined]
    for flag, count in (("limit_train_batches", training), ("limit_val_batches", validation)):
        limit = getattr(trainer, flag)
        if isinstance(limit, float) and limit > 0 and count and int(count * limit) < 1:
            raise ConfigError(
                f"trainer.{'overfit_batches' if overfits else flag}={limit:g}: less than one of {count} batches; "
                f"legal: at least {1 / count:.3g}, or a number of batches"
            )
    interval, batches = trainer.val_check_interval, limited(training, trainer.limit_train_batches)
    within = trainer.check_val_every_n_epoch is not None and validation and trainer.limit_val_batches
    if within and type(interval) is int and interval > batches:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; legal: at most that, or "
            "trainer.check_val_every_n_epoch=null to count across epochs"
        )


def rehearse(
    trainer: pl.Trainer,
    module: SearchModule | TrialSearch,
    data: SearchData,
    callbacks: Iterable[pl.Callback],
    memory: int,
) -> None:
    """Refuse a search whose batches, memory, optimisers or callbacks would fail after it has begun.

    Args:
        trainer: of the search.
        module: the search.
        data: set up.
        callbacks: of the search.
        memory: bytes there are.

    Raises:
        ConfigError: names the setting.
    """
    some = module.space.sample(generator(module.seed, "check"))
    if isinstance(module, TrialSearch):
        check_lengths(trainer, len(module.train_dataloader()), 0)
        if not module.engine.instant:
            batch = data.retrain_loader(lambda: 0, searched=True).batches[0]
            said = data.as_option("batch_size", len(batch[0]))
            network = check_batch(said, batch[0], lambda: module.space.network(some))
            here = isinstance(module.engine, SerialEngine | LocalEngine)  # the others train elsewhere
            if network is not None and here:
                check_memory("a candidate", said, batch, trainer, memory, network)
    else:
        loader = data.search_loader(module.alternate, lambda: 0, 0, trainer.world_size, held_out=module.holds_out_arch)
        check_lengths(trainer, len(loader), len(data.evaluation_loader("val", 0, trainer.world_size, searched=True)))
        batch = loader.batches[0]["weights"]
        said = data.as_option("batch_size", len(batch[0]))
        check_batch(said, batch[0], lambda: module.space.network(some))
        run = _weights_pass(module, trainer)
        check_memory("this supernet", said, batch, trainer, memory, module.supernet, run)
        epochs = getattr(module, module.schedule_length or "", trainer.max_epochs or 1)
        for name, training in module.trainings.items():
            given = training.scheduler
            schedule = given.of(epochs) if isinstance(given, OverEpochs) else given
            check_training(f"strategy.{name}_", training.optimizer, schedule, epochs, closure=False)
    callbacks = list(callbacks)
    check_truths(callbacks)
    _check_monitors(trainer, module, callbacks)


def check_memory(
    what: str,
    said: str,
    batch: Batch,
    trainer: pl.Trainer,
    memory: int,
    network: nn.Module,
    run: Callable[[Batch], Any] | None = None,
) -> None:
    """Refuse a training that does not fit into the memory.

    Args:
        what: the network, in words.
        said: the batch size with its name, for the error.
        batch: of the training.
        trainer: of the training.
        memory: bytes there are.
        network: to be trained, with values or on the device "meta".
        run: the forward pass of a batch; None for that of the network.

    Raises:
        ConfigError: see :func:`~lightning_nas.experiment.memory.check_training_memory`.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))

    def take(samples: int) -> Any:
        x, y = (part[:samples].to(device) for part in batch)
        with device:
            return output_of(network, x) if run is None else run((x, y))

    advice = f"lower {said}, or make the network smaller (fewer layers, cells or channels)"
    share = 0.5 if "16" in str(trainer.precision) else 1
    check_training_memory(what, network, take, len(batch[0]), memory=memory, advice=advice, share=share)


def _weights_pass(module: SearchModule, trainer: pl.Trainer) -> Callable[[Batch], Tensor]:
    """The loss of a weights step of the search."""
    module.trainer = trainer  # gates may depend on the length of the search
    with torch.no_grad():
        gates = module.gates(generator(module.seed, "check"))
    return lambda batch: module.task.training_loss(module.supernet(batch[0], gates), batch)


def check_batch(said: str, x: Tensor, make: Callable[[], nn.Module]) -> nn.Module | None:
    """Refuse batches with which batch norm has one value per channel; computes shapes only.

    Args:
        said: the batch size with its name, for the error.
        x: (N, ...), a batch as the network gets it.
        make: makes a network.

    Returns:
        The network on the device "meta"; None where that is not possible.

    Raises:
        ConfigError: names the size.
    """
    try:
        with torch.device("meta"):
            network = make().train()
            network(x.to("meta"))
    except ValueError as reason:
        if "more than 1 value per channel" in str(reason):
            raise ConfigError(
                f"{said}: batch norm cannot train on one value per channel; legal: at least {len(x) + 1}"
            ) from None
    except Exception:  # noqa: BLE001 - an operation without a form for shapes alone proves nothing
        return None
    else:
        return network
    return None


def check_optimizers(strategy: Callable[..., Any], epochs: Any) -> None:
    """The same for the optimisers of a strategy that is not made yet.

    Args:
        strategy: the class of the strategy, or a partial of it; nothing is checked of another callable.
        epochs: of the search; where they are not known, one step of each schedule is taken.

    Raises:
        ConfigError: see :func:`check_training`.

    Example:
        >>> from functools import partial
        >>> from lightning_nas.strategies.differentiable.darts import DARTS
        >>> check_optimizers(partial(DARTS, arch_optimizer=partial(torch.optim.Adam, betas=(0.5, 2))), 4)
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: strategy.arch_optimizer: it cannot train: Invalid beta parameter ...
    """
    kind, given = (strategy.func, strategy.keywords) if isinstance(strategy, partial) else (strategy, {})
    if not isinstance(kind, type) or not issubclass(kind, SearchModule | TrialSearch):
        return
    known = inspect.signature(kind).parameters.items()
    settings = {name: parameter.default for name, parameter in known} | given
    length = settings.get(getattr(kind, "schedule_length", None) or "", epochs)
    length = length if isinstance(length, int) else 1
    for name in ("", "weights_", "arch_"):
        make, schedule = settings.get(f"{name}optimizer"), settings.get(f"{name}scheduler")
        if callable(make):
            schedule = schedule.of(length) if isinstance(schedule, OverEpochs) else schedule
            check_training(f"strategy.{name}", make, schedule, length, closure=False)


def check_short(key: str, training: ShortTraining) -> None:
    """The same for a short training of candidates.

    Raises:
        ConfigError: see :func:`check_training`.
    """
    check_training(key, training.optimizer, training.scheduler, training.epochs)


def check_truths(callbacks: Iterable[pl.Callback]) -> None:
    """The same for the trainings that rank checks compare with.

    Raises:
        ConfigError: see :func:`check_training`.
    """
    for callback in callbacks:
        if isinstance(callback, RankCheck) and isinstance(callback.truth, ShortTraining):
            check_short("callbacks.rank_check.truth.", callback.truth)


def _check_monitors(trainer: pl.Trainer, module: SearchModule | TrialSearch, callbacks: Sequence[pl.Callback]) -> None:
    of_batches = module.monitors()
    legal = of_batches if getattr(trainer, "log_every_n_steps", 0) == 1 else set()
    if isinstance(module, SearchModule) and trainer.limit_val_batches:
        legal = legal | module.validation_monitors()
    for callback in callbacks:
        if isinstance(callback, RankCheck) and callback.every_n_epochs == 1:
            legal = legal | {"rank/kendall_tau", "rank/spearman"}
        if isinstance(callback, ArchitectureLogger) and callback.every_n_epochs == 1:
            legal = legal | {"derived/score"}
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is None or monitor in legal or getattr(callback, "strict", True) is False:
            continue
        where = f"{type(callback).__name__} monitors {shown(monitor)}, which"
        if monitor in of_batches:
            raise ConfigError(f"callbacks: {where} is logged in every epoch only with trainer.log_every_n_steps=1")
        raise ConfigError(
            f"callbacks: {where} this search does not log in every epoch; legal: {', '.join(sorted(legal))}"
        )


def check_training(
    key: str,
    make: Callable[[list[Any]], Optimizer],
    schedule: Callable[[Optimizer], Any] | None,
    epochs: int,
    parameters: Iterable[nn.Parameter] | None = None,
    *,
    closure: bool = True,
) -> Optimizer:
    """Take a step of an optimiser and every step of its learning-rate schedule, on two small parameters.

    Args:
        key: of the configuration, such as ``retrain.``; for the error.
        make: makes the optimiser.
        schedule: makes the schedule, stepped once an epoch; None for a constant rate.
        epochs: length of the training.
        parameters: of the network, on any device, for which the optimiser is made too.
        closure: whether a step of this training has one.

    Returns:
        The optimiser.

    Raises:
        ConfigError: the optimiser or the schedule refuses its arguments, or the number of epochs.
    """
    own = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    for parameter in own:
        parameter.grad = torch.ones_like(parameter)
    how = (lambda: 0.0,) if closure else ()
    try:
        if parameters is not None:
            make([nn.Parameter(torch.empty_like(p, device="meta")) for p in parameters])
        optimizer = make(own)
        optimizer.step(*how)
    except Exception as reason:  # optimisers of any package
        raise ConfigError(f"{key}optimizer: it cannot train: {in_one_line(reason)}") from reason
    try:
        made = schedule(optimizer) if schedule is not None else None
        for _ in range(epochs if made is not None else 0):
            optimizer.step(*how)
            made.step()  # type: ignore[union-attr]
    except Exception as reason:  # schedules of any package
        raise ConfigError(f"{key}scheduler: it fails within {epochs} epochs: {in_one_line(reason)}") from reason
    return optimizer
