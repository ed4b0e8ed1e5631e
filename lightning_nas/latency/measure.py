"""Measurement of latency on a device, in rounds, with a verdict on how steady the machine was."""

import gc
import platform
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.bars import tracked
from lightning_nas.errors import LatencyTableError
from lightning_nas.latency.device import Clock, Device, Stopwatch
from lightning_nas.latency.macs import count_space
from lightning_nas.latency.measurement import LEAST, NETWORKS, Measurement, open_device
from lightning_nas.latency.regression import count_matrix, fit_costs
from lightning_nas.latency.table import UNSTABLE, Conditions, Entry, LatencyTable, Regression, Steadiness
from lightning_nas.processes import check_processes
from lightning_nas.spaces.base import SearchSpace

_EMPTY = (nn.Identity(), (1,), torch.float32)  # what a device takes to be called
_LEFT = 0.01  # of an operation's time, at least, when that of a call is subtracted
_FITTED = 20  # networks of a regression, at least
_DRAW = 1_965_113  # chooses them: other networks than those that a table is checked with, which begin at seed 0


@dataclass(frozen=True)
class Timing:
    """Latency of one forward pass.

    Attributes:
        median_ms: median over rounds of the fastest repeat, milliseconds.
        iqr_ms: inter-quartile range over the rounds, milliseconds.
        steady: whether the rounds agree and the machine had nothing else to do.
    """

    median_ms: float
    iqr_ms: float
    steady: bool = True


Subject = tuple[nn.Module, tuple[int, ...], torch.dtype]
"""A network, the shape of one example, and the type of the example (int64 for words)."""


def measure(
    network: nn.Module, input_shape: tuple[int, ...], *, conditions: Conditions, dtype: torch.dtype = torch.float32
) -> Timing:
    """Time a copy of ``network`` in evaluation mode without gradients; torch's thread count is restored.

    Args:
        network: takes a tensor of shape (N, *input_shape).
        input_shape: shape of one example, (C, H, W) for images.
        conditions: conditions of the measurement; a :class:`~lightning_nas.latency.measurement.Measurement` where the
            device is a command.
        dtype: type of the example, int64 for words; floating-point examples get the type of the conditions.

    Raises:
        InputError: the machine has no such device, or the network cannot be written as ONNX.
        EnvironmentFailure: the command fails.

    Example:
        >>> timing = measure(nn.Linear(8, 8), (8,), conditions=Conditions(min_run_time=1e-4))
        >>> timing.median_ms > 0, timing.iqr_ms >= 0
        (True, True)
    """
    [timing], _ = measure_all([(network, input_shape, dtype)], conditions, title=None)
    return timing


def measure_space(
    space: SearchSpace,
    conditions: Conditions,
    progress: bool = True,
    *,
    networks: int | None = None,
    clock: Clock | None = None,
) -> LatencyTable:
    """Measure every distinct operation of ``space``, and the constant that whole networks need besides.

    With ``by="networks"`` (:class:`~lightning_nas.latency.measurement.Measurement`), whole networks are measured alone,
    and the table is fitted to them (:mod:`lightning_nas.latency.regression`).

    Args:
        space: the search space.
        conditions: conditions of the measurement.
        progress: whether to show a progress bar on stderr.
        networks: random architectures that are measured whole in the same rounds; the median of what they take beyond
            the sum of their operations becomes :attr:`LatencyTable.constant`. 0 leaves it at 0. None for what the
            conditions say, else 6.
        clock: what time is read from.

    Raises:
        InputError: the machine has no such device, or something cannot be written as ONNX.
        EnvironmentFailure: the command fails.
        LatencyTableError: the space lists no operations, or has too few architectures for a regression.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> table = measure_space(ToySpace(), Conditions(min_run_time=1e-4), progress=False)
        >>> table.unit, len(table) > 1
        ('ms', True)
    """
    asked = Measurement.of(conditions)
    networks = asked.networks if networks is None else networks
    if not space.operations():
        raise LatencyTableError(f"{space.name} lists no operations, so there is nothing to measure: latency_table=none")
    with closing(open_device(asked, clock)) as device:
        content = (_by_networks if asked.by_networks else _by_operations)(space, asked, device, networks, progress)
        return LatencyTable(
            unit="ms",
            device=device.description(),
            versions={"python": platform.python_version(), "torch": str(torch.__version__), **device.versions()},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            space=space.name,
            space_digest=space.digest,
            conditions=asked.conditions,
            **content,
        )


def _by_operations(
    space: SearchSpace, asked: Measurement, device: Device, networks: int | None, progress: bool
) -> Mapping[str, Any]:
    """Entries, constant and steadiness, each operation measured by itself.

    A file of its own costs a call, of which a network needs one in all: it is measured too, with an empty network, and
    subtracted. The constant has it then.
    """
    operations = space.operations()
    generator = torch.Generator().manual_seed(0)
    drawn = [space.sample(generator) for _ in range(NETWORKS if networks is None else networks)]
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the caller's random numbers
        built = [(made.build(), made.input_shape, made.dtype) for made in operations.values()]
        whole = [space.subject(space.network(architecture)) for architecture in drawn]
    title = f"measuring {len(built)} operations of {space.name}" if progress else None
    called = [_EMPTY] if device.exports else []
    timings, steadiness = _in_rounds([*called, *built, *whole], device, asked.threads, title)
    call_ms = timings.pop(0).median_ms if called else 0.0
    entries = {
        key: Entry(median=max(t.median_ms - call_ms, _LEFT * t.median_ms), iqr=t.iqr_ms)
        for key, t in zip(operations, timings, strict=False)
    }
    measured = [timing.median_ms for timing in timings[len(built) :]]
    sums = [sum(entries[key].median for key in space.cost_keys(architecture)) for architecture in drawn]
    beyond = [whole_ms - sum_ms for whole_ms, sum_ms in zip(measured, sums, strict=True)]
    constant = max(0.0, statistics.median(beyond)) if beyond else 0.0
    return {"entries": entries, "constant": constant, "steadiness": steadiness}


def _by_networks(
    space: SearchSpace, asked: Measurement, device: Device, networks: int | None, progress: bool
) -> Mapping[str, Any]:
    """Entries, constant, steadiness and regression, from networks that are measured whole."""
    keys = list(space.operations())
    wanted = max(_FITTED, 2 * len(keys)) if networks is None else networks
    drawn = space.different(wanted, torch.Generator().manual_seed(_DRAW))
    if len(drawn) < LEAST:
        raise LatencyTableError(
            f"{space.name}: {len(drawn)} networks are too few for by=networks (at least {LEAST}); legal: by=operations"
        )
    title = f"measuring {len(drawn)} networks of {space.name}" if progress else None
    timings, steadiness = _in_rounds(_networks(space, drawn), device, asked.threads, title)
    counts = count_matrix([space.cost_keys(architecture) for architecture in drawn], keys)
    expected = np.array([entry.median for entry in count_space(space, "MACs").entries.values()])
    fit = fit_costs(counts, np.array([timing.median_ms for timing in timings]), expected)
    entries = {
        key: Entry(median=float(cost), iqr=float(iqr)) for key, cost, iqr in zip(keys, fit.costs, fit.iqr, strict=True)
    }
    unseen = int((counts.sum(0) == 0).sum())
    regression = Regression(networks=len(drawn), error=fit.error, worst=fit.worst, unseen=unseen)
    return {"entries": entries, "constant": fit.constant, "steadiness": steadiness, "regression": regression}


def _networks(space: SearchSpace, architectures: Iterable[Architecture]) -> Iterator[Subject]:
    """One network after the other, with fresh weights that leave the caller's random numbers alone."""
    for architecture in architectures:
        with torch.random.fork_rng(devices=[]):
            network = space.network(architecture)
        yield space.subject(network)


def measure_all(
    networks: Iterable[Subject], conditions: Conditions, title: str | None, clock: Clock | None = None
) -> tuple[list[Timing], Steadiness]:
    """Time the networks in rounds: each once a round, in a new random order, beside a reference operation.

    A burst of other work on the machine disturbs a few rounds of each, which the median over rounds forgets. Networks
    whose rounds disagree are measured for as many rounds again, once.

    Args:
        networks: the networks, each with shape and type of one example.
        conditions: conditions of the measurement.
        title: title of a progress bar on stderr; None for no bar.
        clock: what time is read from.

    Returns:
        The timing of each network, and how steady the machine was.

    Raises:
        InputError: the machine has no such device, or a network cannot be written as ONNX.
        EnvironmentFailure: the command fails.
    """
    with closing(open_device(conditions, clock)) as device:
        return _in_rounds(networks, device, conditions.threads, title)


def _in_rounds(
    networks: Iterable[Subject], device: Device, threads: int, title: str | None
) -> tuple[list[Timing], Steadiness]:
    check_processes(f"threads={threads}", threads)
    with torch.random.fork_rng(devices=[]):
        reference = (nn.Conv2d(16, 16, 3, padding=1), (16, 16, 16), torch.float32)
    waiting = f"writing ONNX files, then {title}" if device.exports and title is not None else None
    subjects = tracked((*networks, reference), escape(waiting or ""), hidden=waiting is None, stderr=True)
    rounds = _Rounds([device.stopwatch(*subject) for subject in subjects], device)
    with _undisturbed(threads):
        for stopwatch in rounds.stopwatches:
            stopwatch.ready()
        rounds.run(range(len(rounds.stopwatches)), title)
        if unstable := [i for i, spread in enumerate(rounds.spreads()) if spread > UNSTABLE]:
            again = None if title is None else f"measuring {len(unstable)} again"
            rounds.run(sorted({*unstable, len(rounds.stopwatches) - 1}), again)
    return rounds.timings(), rounds.steadiness()


class _Rounds:
    """The rounds of one measurement; the last of the stopwatches is that of the reference."""

    def __init__(self, stopwatches: Sequence[Stopwatch], device: Device) -> None:
        self.stopwatches, self.device = stopwatches, device
        self.generator = torch.Generator().manual_seed(0)
        self.seconds: list[list[float]] = [[] for _ in stopwatches]  # one for each round
        self.waiting: list[float] = []

    def run(self, places: Sequence[int], title: str | None) -> None:
        """Measure what is at these places for as many rounds as a measurement has."""
        turns = [
            places[i] for _ in range(self.device.rounds) for i in torch.randperm(len(places), generator=self.generator)
        ]
        walls, cpus = [], []
        for place in tracked(turns, escape(title or ""), hidden=title is None, stderr=True):
            turn = self.stopwatches[place].turn()
            self.seconds[place].append(turn.seconds)
            walls.append(turn.wall)
            cpus.append(turn.cpu)
        for start in range(0, len(turns), len(places)):
            wall, cpu = (sum(times[start : start + len(places)]) for times in (walls, cpus))
            self.waiting.append(max(0.0, 1 - cpu / wall))

    def _quartiles(self) -> list[tuple[float, float, float]]:
        return [tuple(np.quantile(values, [0.25, 0.5, 0.75]).tolist()) for values in self.seconds]

    def spreads(self) -> list[float]:
        """Inter-quartile range of each network, relative to its median."""
        return [(high - low) / middle for low, middle, high in self._quartiles()]

    def timings(self) -> list[Timing]:
        """Of each network but the reference."""
        steady = self.steadiness().machine_is_steady
        return [
            Timing(middle * 1e3, (high - low) * 1e3, steady and high - low <= UNSTABLE * middle)
            for low, middle, high in self._quartiles()[:-1]
        ]

    def steadiness(self) -> Steadiness:
        *spreads, drift = self.spreads()
        return Steadiness(
            rounds=max(len(values) for values in self.seconds),
            spread=statistics.median(spreads),
            unstable=statistics.fmean(spread > UNSTABLE for spread in spreads),
            drift=drift,
            waiting=statistics.median(self.waiting) if self.device.shows_waiting else 0.0,
        )


@contextmanager
def _undisturbed(threads: int) -> Iterator[None]:
    """No gradients, no garbage collection, and torch's threads as the conditions say."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()
