"""Measurement of latency on this device."""

import copy
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.benchmark import Measurement, Timer

from lightning_nas.errors import InputError
from lightning_nas.latency.table import Conditions, Entry, LatencyTable
from lightning_nas.spaces.base import SearchSpace

_BLOCKS = 9


@dataclass(frozen=True)
class Timing:
    """Median and inter-quartile range over blocks of forward passes, in milliseconds per pass."""

    median_ms: float
    iqr_ms: float


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
        >>> from lightning_nas.testing.toys import ToySpace
        >>> table = measure_space(ToySpace(), Conditions(min_run_time=1e-4), progress=False)
        >>> table.unit, len(table) > 1
        ('ms', True)
    """
    return measure_all([(network, input_shape, dtype)], conditions, title=None)[0]


def measure_space(space: SearchSpace, conditions: Conditions, progress: bool = True) -> LatencyTable:
    """Measure every distinct operation of ``space`` once, with fresh weights.

    Args:
        space: the search space.
        conditions: conditions of the measurement.
        progress: whether to show a progress bar on stderr.

    Raises:
        InputError: the machine has no such device.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> table = measure_space(ToySpace(), Conditions(min_run_time=1e-4), progress=False)
        >>> table.unit, len(table) > 1
        ('ms', True)
    """
    operations = space.operations()
    with torch.random.fork_rng(devices=[]):  # fresh weights must not move the caller's random numbers
        built = [(made.build(), made.input_shape, made.dtype) for made in operations.values()]
    title = f"measuring {len(built)} operations of {space.name}" if progress else None
    timings = measure_all(built, conditions, title)
    entries = {key: Entry(median=t.median_ms, iqr=t.iqr_ms) for key, t in zip(operations, timings, strict=True)}
    return LatencyTable(
        unit="ms",
        device=device_description(conditions.device),
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        space=space.name,
        space_digest=space.digest,
        conditions=conditions,
        entries=entries,
    )


def measure_all(networks: Iterable[Subject], conditions: Conditions, title: str | None) -> list[Timing]:
    """Time the networks in turns, so that a burst of other work on the machine disturbs a few blocks of each.

    Args:
        networks: the networks, each with shape and type of one example.
        conditions: conditions of the measurement.
        title: title of a progress bar on stderr; None for no bar.

    Raises:
        InputError: the machine has no such device.
    """
    if conditions.device == "cuda" and not torch.cuda.is_available():
        raise InputError("latency cannot be measured with device=cuda: torch sees no GPU here; legal: device=cpu")
    timers = [_timer(*subject, conditions) for subject in networks]
    with torch.inference_mode():
        # not blocked_autorange: it wants blocks of 10,000 times the clock's error, a second for one small operation
        seconds = conditions.min_run_time / _BLOCKS
        passes = [max(1, int(seconds / timer.timeit(3).median)) for timer in timers]
        turns = [pair for _ in range(_BLOCKS) for pair in zip(timers, passes, strict=True)]
        bar = track(turns, title or "", console=Console(stderr=True), transient=True, disable=title is None)
        blocks = [timer.timeit(number) for timer, number in bar]
    merged = [Measurement.merge(blocks[i :: len(timers)])[0] for i in range(len(timers))]
    return [Timing(m.median * 1e3, m.iqr * 1e3) for m in merged]


def _timer(network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype, conditions: Conditions) -> Timer:
    target = {"device": torch.device(conditions.device), "dtype": getattr(torch, conditions.dtype)}
    network = copy.deepcopy(network).eval().to(**target)
    x = torch.rand(conditions.batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
    x = x.to(**target) if dtype.is_floating_point else x.to(target["device"], dtype)  # words: the first of them
    if conditions.memory_format == "channels_last" and x.ndim == 4:
        network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return Timer("network(x)", globals={"network": network, "x": x}, num_threads=conditions.threads)


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
