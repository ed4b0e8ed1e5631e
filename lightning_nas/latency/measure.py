"""Measurement of latency on this device, in rounds, with a verdict on how steady the machine was."""

import copy
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.markup import escape
from torch import Tensor, nn

from lightning_nas.bars import tracked
from lightning_nas.errors import InputError, LatencyTableError
from lightning_nas.latency.table import UNSTABLE, Conditions, Entry, LatencyTable, Steadiness
from lightning_nas.processes import check_processes
from lightning_nas.spaces.base import SearchSpace

_ROUNDS = 9
_REPEATS = 3  # of each subject in a round; the fastest counts
_NETWORKS = 6  # whole networks that tell the constant of a table


class Clock:
    """Wall time, and CPU time of the calling thread, in nanoseconds."""

    def wall(self) -> int:
        """Nanoseconds since a fixed moment."""
        return time.perf_counter_ns()

    def cpu(self) -> int:
        """Nanoseconds in which the calling thread ran."""
        return time.thread_time_ns()


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
        conditions: conditions of the measurement.
        dtype: type of the example, int64 for words; floating-point examples get the type of the conditions.

    Raises:
        InputError: the machine has no such device.

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
    networks: int = _NETWORKS,
    clock: Clock | None = None,
) -> LatencyTable:
    """Measure every distinct operation of ``space``, and the constant that whole networks need besides.

    Args:
        space: the search space.
        conditions: conditions of the measurement.
        progress: whether to show a progress bar on stderr.
        networks: random architectures that are measured whole in the same rounds; the median of what they take beyond
            the sum of their operations becomes :attr:`LatencyTable.constant`. 0 leaves it at 0.
        clock: what time is read from.

    Raises:
        InputError: the machine has no such device.
        LatencyTableError: the space lists no operations.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> table = measure_space(ToySpace(), Conditions(min_run_time=1e-4), progress=False)
        >>> table.unit, len(table) > 1
        ('ms', True)
    """
    operations = space.operations()
    if not operations:
        raise LatencyTableError(f"{space.name} lists no operations, so there is nothing to measure: latency_table=none")
    generator = torch.Generator().manual_seed(0)
    drawn = [space.sample(generator) for _ in range(networks)]
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the caller's random numbers
        built = [(made.build(), made.input_shape, made.dtype) for made in operations.values()]
        whole = [space.subject(space.network(architecture)) for architecture in drawn]
    title = f"measuring {len(built)} operations of {space.name}" if progress else None
    timings, steadiness = measure_all([*built, *whole], conditions, title, clock)
    entries = {key: Entry(median=t.median_ms, iqr=t.iqr_ms) for key, t in zip(operations, timings, strict=False)}
    measured = [timing.median_ms for timing in timings[len(built) :]]
    sums = [sum(entries[key].median for key in space.cost_keys(architecture)) for architecture in drawn]
    beyond = [whole_ms - sum_ms for whole_ms, sum_ms in zip(measured, sums, strict=True)]
    return LatencyTable(
        unit="ms",
        device=device_description(conditions.device),
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        space=space.name,
        space_digest=space.digest,
        conditions=conditions,
        constant=max(0.0, statistics.median(beyond)) if beyond else 0.0,
        steadiness=steadiness,
        entries=entries,
    )


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
        InputError: the machine has no such device.
    """
    if conditions.device == "cuda" and not torch.cuda.is_available():
        raise InputError("latency cannot be measured with device=cuda: torch sees no GPU here; legal: device=cpu")
    with torch.random.fork_rng(devices=[]):
        reference = (nn.Conv2d(16, 16, 3, padding=1), (16, 16, 16), torch.float32)
    calls = [_call(*subject, conditions) for subject in (*networks, reference)]
    rounds = _Rounds(calls, conditions, clock or Clock())
    with _undisturbed(conditions.threads):
        rounds.plan()
        rounds.run(range(len(calls)), title)
        if unstable := [i for i, spread in enumerate(rounds.spreads()) if spread > UNSTABLE]:
            again = None if title is None else f"measuring {len(unstable)} again"
            rounds.run(sorted({*unstable, len(calls) - 1}), again)
    return rounds.timings(), rounds.steadiness()


class _Rounds:
    """The rounds of one measurement; the last of the calls is the reference."""

    def __init__(self, calls: Sequence[Callable[[], object]], conditions: Conditions, clock: Clock) -> None:
        self.calls, self.conditions, self.clock = calls, conditions, clock
        self.generator = torch.Generator().manual_seed(0)
        self.plans: list[tuple[int, int]] = []
        self.seconds: list[list[float]] = [[] for _ in calls]  # of the fastest repeat of each round
        self.waiting: list[float] = []

    def plan(self) -> None:
        """Choose the repeats in a round and the passes of a repeat, so that all fit ``min_run_time``."""
        for call in self.calls:
            call()
            once = min(self._timed(call, 1)[0] for _ in range(3))
            fits = max(1, int(self.conditions.min_run_time / _ROUNDS / max(once, 1e-9)))
            repeats = min(_REPEATS, fits)
            self.plans.append((repeats, fits // repeats))

    def run(self, places: Sequence[int], title: str | None) -> None:
        """Measure the calls at these places for as many rounds as a measurement has."""
        turns = [places[i] for _ in range(_ROUNDS) for i in torch.randperm(len(places), generator=self.generator)]
        walls, cpus = [], []
        for place in tracked(turns, escape(title or ""), hidden=title is None, stderr=True):
            repeats, passes = self.plans[place]
            timed = [self._timed(self.calls[place], passes) for _ in range(repeats)]
            self.seconds[place].append(min(wall for wall, _ in timed) / passes)
            walls.append(sum(wall for wall, _ in timed))
            cpus.append(sum(cpu for _, cpu in timed))
        for start in range(0, len(turns), len(places)):
            wall, cpu = (sum(times[start : start + len(places)]) for times in (walls, cpus))
            self.waiting.append(max(0.0, 1 - cpu / wall))

    def _timed(self, call: Callable[[], object], passes: int) -> tuple[float, float]:
        """Seconds of wall and CPU time for a number of passes."""
        synchronize = torch.cuda.synchronize if self.conditions.device == "cuda" else None
        if synchronize:
            synchronize()
        cpu, wall = self.clock.cpu(), self.clock.wall()
        for _ in range(passes):
            call()
        if synchronize:
            synchronize()
        return (self.clock.wall() - wall) / 1e9, (self.clock.cpu() - cpu) / 1e9

    def _quartiles(self) -> list[tuple[float, float, float]]:
        return [tuple(np.quantile(values, [0.25, 0.5, 0.75]).tolist()) for values in self.seconds]

    def spreads(self) -> list[float]:
        """Inter-quartile range of each call, relative to its median."""
        return [(high - low) / middle for low, middle, high in self._quartiles()]

    def timings(self) -> list[Timing]:
        """The timing of each call, without the reference."""
        steady = self.steadiness().machine_is_steady
        return [
            Timing(middle * 1e3, (high - low) * 1e3, steady and high - low <= UNSTABLE * middle)
            for low, middle, high in self._quartiles()[:-1]
        ]

    def steadiness(self) -> Steadiness:
        *spreads, drift = self.spreads()
        one_thread = self.conditions.device == "cpu" and self.conditions.threads == 1
        return Steadiness(
            rounds=max(len(values) for values in self.seconds),
            spread=statistics.median(spreads),
            unstable=statistics.fmean(spread > UNSTABLE for spread in spreads),
            drift=drift,
            waiting=statistics.median(self.waiting) if one_thread else 0.0,
        )


@contextmanager
def _undisturbed(threads: int) -> Iterator[None]:
    """No gradients, no garbage collection, and torch's threads as the conditions say."""
    check_processes(f"threads={threads}", threads)
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


def _call(
    network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype, conditions: Conditions
) -> Callable[[], Tensor]:
    target = {"device": torch.device(conditions.device), "dtype": getattr(torch, conditions.dtype)}
    network = copy.deepcopy(network).eval().to(**target)
    x = torch.rand(conditions.batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
    x = x.to(**target) if dtype.is_floating_point else x.to(target["device"], dtype)  # words: the first of them
    if conditions.memory_format == "channels_last" and x.ndim == 4:
        network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return lambda: network(x)


def device_description(device: str) -> str:
    """Describe processor or GPU and operating system; the text is the same in every run on one machine.

    >>> device_description("cpu") == device_description("cpu")
    True
    """
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"
    return ascii(f"{name}, {sys.platform} {platform.machine()}")[1:-1][:200]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
