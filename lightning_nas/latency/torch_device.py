"""This machine's processor or GPU, by torch."""

from __future__ import annotations

import copy
import platform
import sys
from pathlib import Path

import torch
from torch import nn

from lightning_nas.errors import InputError
from lightning_nas.latency.device import RUN_TIMES, Clock, Device, Passes, example
from lightning_nas.latency.table import Conditions


class TorchDevice(Device):
    """Networks as torch runs them.

    Args:
        conditions: with the device "cpu" or "cuda".
        clock: what time is read from.

    Raises:
        InputError: the machine has no such device.
    """

    exports = False

    def __init__(self, conditions: Conditions, clock: Clock) -> None:
        if conditions.device == "cuda" and not torch.cuda.is_available():
            raise InputError("latency cannot be measured with device=cuda: torch sees no GPU here; legal: device=cpu")
        self.conditions, self.clock = conditions, clock
        self.seconds = RUN_TIMES * conditions.min_run_time
        self.shows_waiting = conditions.device == "cpu" and conditions.threads == 1

    def description(self) -> str:
        return device_description(self.conditions.device)

    def stopwatch(self, network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> Passes:
        conditions = self.conditions
        target = {"device": torch.device(conditions.device), "dtype": getattr(torch, conditions.dtype)}
        network = copy.deepcopy(network).eval().to(**target)
        x = example(input_shape, conditions.batch_size)
        x = x.to(**target) if dtype.is_floating_point else x.to(target["device"], dtype)  # words: the first of them
        if conditions.memory_format == "channels_last" and x.ndim == 4:
            network.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        synchronize = torch.cuda.synchronize if conditions.device == "cuda" else None
        return Passes(lambda: network(x), conditions.min_run_time, self.clock, synchronize)


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
