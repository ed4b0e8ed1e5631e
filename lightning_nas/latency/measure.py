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
from lightning_nas.latency.whole import factor_and_constant, spread
from lightning_nas.processes import check_processes
from lightning_nas.spaces.base import SearchSpace

_EMPTY = (nn.Identity(), (1,), torch.float32)  # what a device takes to be called
_LEFT = 0.01  # of an operation's time, at least, when that of a call is subtracted
_FITTED = 20  # networks of a regression, at least
_SETS = 4  # of rounds, at most; from the second on only for what is not steady yet
_DRAW = 1_965_113  # chooses them: other networks than those that a table is checked with, which begin at seed 0


@dataclass(frozen=True)
class Timing:
    """Latency of one forward pass.

    Attributes:
        median_ms: median over the fastest quarter of the rounds, milliseconds.
        iqr_ms: inter-quartile range over the fastest quarter of the rounds, milliseconds.
        steady: whether these rounds agree and the machine had nothing else to do.
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
    """Measure every distinct operation of ``space``, and what whole networks need besides.

    With ``by="networks"`` (:class:`~lightning_nas.latency.measurement.Measurement`), whole networks are measured alone,
    and the table is fitted to them (:mod:`lightning_nas.latency.regression`).

    Args:
        space: the search space.
        conditions: conditions of the measurement.
        progress: whether to show a progress bar on stderr.
        networks: architectures that are measured whole in the same rounds, half of them random, the others cheaper.
            They tell :attr:`LatencyTable.factor` and :attr:`LatencyTable.constant`. 0 leaves these at 1 and 0. None for
            what the conditions say, else 8.
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
    """Entries, factor, constant and steadiness, each operation measured by itself.

    A file of its own costs a call, of which a network needs one in all: it is measured too, with an empty network, and
    subtracted. The constant has it then.
    """
    operations = space.operations()
    generator = torch.Generator().manual_seed(0)
    drawn = spread(space, NETWORKS if networks is None else networks, generator)
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the caller's random numbers
        built = [(made.build(), made.input_shape, made.dtype) for made in operations.values()]
        whole = [space.subject(space.network(architecture)) for architecture in drawn]
    title = f"measuring {len(built)} operations of {space.name}" if progress else None
    called = [_EMPTY] if device.exports else []
    timings, steadiness = _in_rounds([*called, *built, *whole], device, asked.threads, title)
    call_ms = timings.pop(0).median_ms if called else 0.0
    alone = {key: max(t.median_ms - call_ms, _LEFT * t.median_ms) for key, t in zip(operations, timings, strict=False)}
    measured = [timing.median_ms for timing in timings[len(built) :]]
    sums = [sum(alone[key] for key in space.cost_keys(architecture)) for architecture in drawn]
    factor, constant = factor_and_constant(sums, measured)
    entries = {
        key: Entry(median=factor * alone[key], iqr=factor * t.iqr_ms)
        for key, t in zip(operations, timings, strict=False)
    }
    return {"entries": entries, "factor": factor, "constant": constant, "steadiness": steadiness}


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

    Other work on the machine, or on the host of a virtual one, only ever makes a network slower. So the fastest quarter
    of the rounds counts, and at least three. Networks for which these disagree are measured again, up to three times.

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
    with _alone(threads):
        for stopwatch in rounds.stopwatches:
            stopwatch.ready()
        rounds.run(range(len(rounds.stopwatches)), title)
        for _ in range(_SETS - 1):
            if not (unstable := [i for i, spread in enumerate(rounds.spreads()) if spread > UNSTABLE]):
                break
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
        self.wall, self.cpu = 0.0, 0.0  # seconds of all turns so far

    def run(self, places: Sequence[int], title: str | None) -> None:
        """Measure what is at these places for as many rounds as a measurement has, and more if they pass quickly."""
        turns, least = self._turns(places), self.device.rounds * len(places)
        for place in tracked(turns, escape(title or ""), least, hidden=title is None, stderr=True):
            turn = self.stopwatches[place].turn()
            self.seconds[place].append(turn.seconds)
            self.wall += turn.wall
            self.cpu += turn.cpu

    def _turns(self, places: Sequence[int]) -> Iterator[int]:
        """These places in every round, each time in another order."""
        start, rounds = self.wall, 0
        while rounds < self.device.rounds or self.wall - start < self.device.seconds:
            wall, cpu = self.wall, self.cpu
            yield from (places[i] for i in torch.randperm(len(places), generator=self.generator))
            self.waiting.append(max(0.0, 1 - (self.cpu - cpu) / (self.wall - wall)))
            rounds += 1

    def _quartiles(self) -> list[tuple[float, float, float]]:
        """Of the undisturbed rounds of each network."""
        return [tuple(np.quantile(_undisturbed(values), [0.25, 0.5, 0.75]).tolist()) for values in self.seconds]

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


def _undisturbed(seconds: Sequence[float]) -> list[float]:
    """The fastest quarter, and at least three."""
    return sorted(seconds)[: max(3, len(seconds) // 4)]


@contextmanager
def _alone(threads: int) -> Iterator[None]:
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
