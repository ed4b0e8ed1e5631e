"""The error of predicting whole networks by sums over operations, the assumption behind every latency table."""

import statistics
from dataclasses import dataclass

import torch

from lightning_nas.errors import InputError, LatencyTableError
from lightning_nas.functional.ranking import kendall_tau
from lightning_nas.latency.measure import measure_all
from lightning_nas.latency.table import Conditions, LatencyTable, Steadiness
from lightning_nas.spaces.base import SearchSpace


@dataclass(frozen=True)
class Additivity:
    """Agreement of the predictions of a table, factor and constant included, with measured latencies of networks.

    Attributes:
        kendall_tau: tau-b of predicted against measured latency.
        mean_relative_error: mean of abs(predicted - measured) / measured.
        factor: the table's factor, which the predictions include.
        constant_ms: the table's constant, which they include too.
        sum_error: median of (sum - measured) / measured, without factor and constant.
        steadiness: of the machine while the networks were measured.
        predicted: predicted latency of each architecture, milliseconds.
        measured: measured latency of each architecture, milliseconds.
    """

    kendall_tau: float
    mean_relative_error: float
    factor: float
    constant_ms: float
    sum_error: float
    steadiness: Steadiness
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


def additivity(
    space: SearchSpace,
    table: LatencyTable,
    samples: int,
    generator: torch.Generator,
    progress: bool = True,
    *,
    conditions: Conditions | None = None,
) -> Additivity:
    """Measure random architectures as whole networks and compare with the predictions of a table.

    Args:
        space: of the table.
        table: that was measured.
        samples: architectures.
        generator: chooses them.
        progress: whether to show a progress bar on stderr.
        conditions: with which the table was measured, if that was by a command; None for the table's.

    Raises:
        LatencyTableError: the table was not measured, so its conditions are unknown.
        InputError: fewer than two samples, or the device is not here.
        EnvironmentFailure: the command fails.
    """
    conditions = conditions or table.conditions
    if conditions is None:
        raise LatencyTableError("additivity needs a measured table; this one has no conditions of a measurement")
    if samples < 2:
        raise InputError(f"samples={samples}: ranking needs at least 2 architectures")
    architectures = [space.sample(generator) for _ in range(samples)]
    title = f"measuring {samples} networks of {space.name}" if progress else None
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the caller's random numbers
        networks = (space.subject(space.network(architecture)) for architecture in architectures)
        timings, steadiness = measure_all(networks, conditions, title)
    measured = [timing.median_ms for timing in timings]
    predicted = [space.cost(architecture, table) for architecture in architectures]
    pairs = list(zip(predicted, measured, strict=True))
    return Additivity(
        kendall_tau=kendall_tau(torch.tensor(predicted), torch.tensor(measured)).item(),
        mean_relative_error=statistics.fmean(abs(p - m) / m for p, m in pairs),
        factor=table.factor,
        constant_ms=table.constant,
        sum_error=statistics.median(((p - table.constant) / table.factor - m) / m for p, m in pairs),
        steadiness=steadiness,
        predicted=tuple(predicted),
        measured=tuple(measured),
    )
