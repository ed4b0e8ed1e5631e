"""Lengths that must agree, checked on the settings alone: before data are read or anything is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightning_nas.errors import ConfigError
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch


def check_search(
    strategy: Callable[..., Any],
    epochs: Any,
    longest_warm_up: int | None = None,
    *,
    child: Mapping[str, Any] | None = None,
) -> list[str]:
    """Refuse a search whose settings do not go with its epochs.

    Args:
        strategy: the class of the strategy, or a partial of it; nothing is checked of another callable.
        epochs: ``trainer.max_epochs``.
        longest_warm_up: of a debugging run, which shortens its warm-up; None for others.
        child: settings of the children of a search by trials; None where none are trained.

    Returns:
        What is legal and yet doubtful, in words.

    Raises:
        ConfigError: names the keys, what came and what is legal.

    Example:
        >>> from lightning_nas.strategies.one_path.mdenas import MdeNAS
        >>> check_search(partial(MdeNAS, warmup_epochs=30), 12)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: strategy.warmup_epochs=30 leaves no architecture step in ...
    """
    kind, given = (strategy.func, strategy.keywords) if isinstance(strategy, partial) else (strategy, {})
    if not isinstance(kind, type) or not issubclass(kind, SearchModule | TrialSearch):
        return []
    known = inspect.signature(kind).parameters.items()
    settings = {name: parameter.default for name, parameter in known} | given
    if issubclass(kind, TrialSearch):
        if epochs != 1:
            raise ConfigError(f"trainer.max_epochs={epochs}: a search by trials has one epoch; set strategy.trials")
        if child is not None:
            kind.check_child(settings, child)
        return []
    if not isinstance(epochs, int) or epochs < 1:
        raise ConfigError(f"trainer.max_epochs={epochs}: a search needs the number of its epochs, at least 1")
    if longest_warm_up is not None and kind.warm_up in settings:
        settings[kind.warm_up] = min(settings[kind.warm_up], longest_warm_up)
    kind.check_lengths(epochs, settings, shortened=longest_warm_up is not None)
    if longest_warm_up is not None:
        return []
    length, named = settings.get(kind.schedule_length or "", epochs), "trainer.max_epochs"
    schedules = {f"strategy.{key}": settings.get(key) for key in ("weights_scheduler", "arch_scheduler")}
    said = [check_schedule(key, schedule, length, named) for key, schedule in schedules.items()]
    return [doubt for doubt in said if doubt]


def check_schedule(key: str, schedule: Any, epochs: int, named: str) -> str | None:
    """Refuse a learning-rate schedule that is still warming up when the training ends.

    Args:
        key: of the schedule.
        schedule: a partial of its class; nothing is known of another callable.
        epochs: of the training.
        named: the key of ``epochs``.

    Returns:
        What is doubtful: a schedule made for another length; None if nothing is.

    Raises:
        ConfigError: names both lengths.

    Example:
        >>> from torch.optim.lr_scheduler import CosineAnnealingLR
        >>> check_schedule("retrain.scheduler", partial(CosineAnnealingLR, T_max=12), 60, "retrain.epochs")
        'retrain.scheduler.T_max=12 is not retrain.epochs=60: the rate is at its end before the training is'
    """
    settings: Mapping[str, Any] = schedule.keywords if isinstance(schedule, partial) else {}
    warm_up, end = settings.get("warmup_epochs", 0), settings.get("T_max", epochs)
    if warm_up > min(epochs, end):
        raise ConfigError(
            f"{key}.warmup_epochs={warm_up} is longer than {named}={epochs} or {key}.T_max={end}; legal: at most these"
        )
    if end == epochs:
        return None
    early = (
        "the rate is at its end before the training is" if end < epochs else "the training ends before the rate does"
    )
    return f"{key}.T_max={end} is not {named}={epochs}: {early}"
