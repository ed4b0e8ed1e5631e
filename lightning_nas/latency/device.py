"""The devices of a measurement: each gives a network a stopwatch, and every round asks for one turn of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

ROUNDS = 9
RUN_TIMES = 15  # seconds of all rounds, in units of the seconds for each network
_REPEATS = 3  # of a network in a turn; the fastest counts


@dataclass(frozen=True)
class Turn:
    """What one round found of one network.

    Attributes:
        seconds: of one forward pass.
        wall: seconds that the turn took.
        cpu: seconds in which the measuring thread ran.
    """

    seconds: float
    wall: float
    cpu: float


class Stopwatch(ABC):
    """Times one network."""

    def ready(self) -> None:  # noqa: B027 - a stopwatch may need none
        """Prepare for the turns; called once, before those of any network."""

    @abstractmethod
    def turn(self) -> Turn:
        """Time the network once more."""


class Device(ABC):
    """Where networks run.

    Attributes:
        rounds: of a measurement, at least.
        seconds: that these rounds take at least; there are more of them where they pass quickly, so that a short
            disturbance does not meet them all.
        exports: whether a network is written to an ONNX file first, which takes a second or more.
        shows_waiting: whether the CPU time of a turn tells how long the network waited for other programs.
    """

    rounds: int = ROUNDS
    seconds: float = 0.0
    exports: bool = True
    shows_waiting: bool = False

    @abstractmethod
    def description(self) -> str:
        """At most 200 printable characters, the same in every run: figures of different texts are never compared."""

    def versions(self) -> dict[str, str]:
        """Versions of the software that runs the networks, besides Python and torch."""
        return {}

    @abstractmethod
    def stopwatch(self, network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> Stopwatch:
        """Put a copy of the network, in evaluation mode, on the device.

        Args:
            network: takes a tensor of shape (N, *input_shape).
            input_shape: shape of one example.
            dtype: type of the example, int64 for words.
        """

    def close(self) -> None:  # noqa: B027 - a device may leave nothing
        """Remove what the measurement left."""


class Clock:
    """Wall time, and CPU time of the calling thread, in nanoseconds."""

    def wall(self) -> int:
        """Nanoseconds since a fixed moment."""
        return time.perf_counter_ns()

    def cpu(self) -> int:
        """Nanoseconds in which the calling thread ran."""
        return time.thread_time_ns()


class Passes(Stopwatch):
    """Forward passes in this process, as many in a turn as fit its share of the time.

    Args:
        call: one forward pass.
        min_run_time: seconds for all rounds.
        clock: what time is read from.
        synchronize: waits until the device has done what it was given; None if a call does.
    """

    def __init__(
        self,
        call: Callable[[], object],
        min_run_time: float,
        clock: Clock,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self.call, self.min_run_time, self.clock, self.synchronize = call, min_run_time, clock, synchronize
        self.repeats, self.passes = 1, 1

    def ready(self) -> None:
        self.call()
        once = min(self._timed(1)[0] for _ in range(3))
        fits = max(1, int(self.min_run_time / ROUNDS / max(once, 1e-9)))
        self.repeats = min(_REPEATS, fits)
        self.passes = fits // self.repeats

    def turn(self) -> Turn:
        timed = [self._timed(self.passes) for _ in range(self.repeats)]
        fastest = min(wall for wall, _ in timed) / self.passes
        return Turn(fastest, sum(wall for wall, _ in timed), sum(cpu for _, cpu in timed))

    def _timed(self, passes: int) -> tuple[float, float]:
        """Seconds of wall and CPU time of so many passes."""
        if self.synchronize:
            self.synchronize()
        cpu, wall = self.clock.cpu(), self.clock.wall()
        for _ in range(passes):
            self.call()
        if self.synchronize:
            self.synchronize()
        return (self.clock.wall() - wall) / 1e9, (self.clock.cpu() - cpu) / 1e9


def example(input_shape: tuple[int, ...], batch_size: int) -> torch.Tensor:
    """The numbers in [0, 1) that every device is given."""
    return torch.rand(batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
