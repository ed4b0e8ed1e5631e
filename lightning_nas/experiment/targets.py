"""Check of targets: the network of the answer is measured, and the search answers again where it misses one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.errors import EnvironmentFailure, InputError
from lightning_nas.latency.measure import measure
from lightning_nas.latency.measurement import Measurement, reached
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.target import Target

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)


def as_searched(run: Run, architecture: Architecture) -> bool:
    """Whether the network of the answer is one of those that the run's table is of, in size and classes."""
    same = run.data.num_classes == run.space.num_classes and run.space.evaluation() is run.space
    return architecture.space == run.space.name and same


def conditions_here(run: Run, table: LatencyTable) -> Conditions | None:
    """Those under which networks can be measured now as those of the table were, on its device; None if they cannot.

    A command is that of the run's own latency table, never one that a file names.
    """
    conditions = table.conditions
    if conditions is not None and conditions.device == "command":
        source = run.table
        given = {name: getattr(source, name, None) for name in ("command", "timeout")}
        conditions = Measurement.of(conditions, **given) if given["command"] is not None else None
    return conditions if conditions is not None and reached(conditions) == table.device else None


def met(
    run: Run, module: SearchModule | TrialSearch, trainer: pl.Trainer, choose: Callable[[], Architecture]
) -> Architecture:
    r"""An answer whose measured network keeps the target; notes in the run's figures what was asked and found.

    Networks may take longer than their table says. So the network of the answer is measured once, and if it takes
    longer than the target T, the search answers again below

    .. math:: T' = c \, T / m

    with its cost c by the table and the measured m. It is measured on the device of the table; an answer that is in
    another size than was searched, or has a table of a device that is not here, is left as it is.

    Args:
        run: of the search.
        module: after the search.
        trainer: of the search.
        choose: the answer within the module's target; called again when that has changed.
    """
    target, answer = module.target, choose()
    if target is None:
        return answer
    if not as_searched(run, answer):
        run.warn("the target holds for the network that was searched; the one that is retrained has another size")
    elif (values := _corrected(run, target, trainer, answer)) is not None:
        answer = _again(run, module, target.tightened(values), answer, choose)
    assert module.target is not None
    run.figures["targets"] = _noted(module.target, answer)
    return answer


def _corrected(run: Run, target: Target, trainer: pl.Trainer, answer: Architecture) -> list[float] | None:
    """The bounds of the table's costs that make up for what the measured network takes longer; None if it keeps all."""
    values = [limit.value for limit in target.limits]
    for k, (limit, cost) in enumerate(zip(target.limits, target.costs(answer), strict=True)):
        conditions = conditions_here(run, limit.table) if limit.unit == "ms" else None
        if conditions is None:
            continue
        taken = _milliseconds(run, answer, conditions) if trainer.is_global_zero else 0.0
        taken = float(trainer.strategy.broadcast(taken))
        log.info("%s: the answer takes %.3f ms, %.3f ms by the table", limit, taken, cost)
        if taken > limit.asked:
            values[k] = min(values[k], cost * limit.asked / taken)
    return None if values == [limit.value for limit in target.limits] else values


def _milliseconds(run: Run, architecture: Architecture, conditions: Conditions) -> float:
    """What the network takes; 0 with a warning if its device does not say: the search that was done is not lost."""
    with torch.random.fork_rng(devices=[]):
        network = run.space.network(architecture)
    try:
        timing = measure(network, run.space.input_shape, conditions=conditions, dtype=run.space.input_dtype)
    except (EnvironmentFailure, InputError) as reason:
        run.warn(f"the target is kept by the table alone, since the answer could not be measured: {reason}")
        return 0.0
    return timing.median_ms


def _again(
    run: Run,
    module: SearchModule | TrialSearch,
    target: Target,
    answer: Architecture,
    choose: Callable[[], Architecture],
) -> Architecture:
    module.target = target
    if isinstance(module, TrialSearch):
        again = choose()
        if all(trial.architecture != again for trial, _ in module.history):
            run.warn(
                "no trial keeps the measured target: the answer is near the best trial, but was not trained before"
            )
        return again
    if target.keeps(answer):
        return answer
    return choose()


def _noted(target: Target, answer: Architecture) -> list[dict[str, Any]]:
    entries = zip(target.limits, target.costs(answer), target.cheapest, strict=True)
    return [
        {
            "name": limit.name,
            "asked": limit.asked,
            "unit": limit.unit,
            "bound": limit.value,
            "cost": cost,
            "cheapest": cheapest,
            "device": limit.table.described() if limit.table.conditions else None,
            "measured": None,
        }
        for limit, cost, cheapest in entries
    ]
