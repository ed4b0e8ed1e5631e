"""What this machine can run at once; what nobody has is refused at once instead of waited for."""

from __future__ import annotations

import os

import torch

from lightning_nas.errors import ConfigError


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_of(wanted: int | None, *, threads: int, gpus: float) -> int:
    """How many children run at once.

    Args:
        wanted: by the configuration; None for as many as cores and GPUs allow.
        threads: of each child.
        gpus: of each child; a fraction lets several share one.

    Raises:
        ConfigError: there is not one slot.

    Example:
        >>> slots_of(3, threads=1, gpus=0)
        3
    """
    if threads > cores():
        raise ConfigError(f"engine.threads={threads}: this machine has {cores()} cores; legal: at most as many")
    devices = torch.cuda.device_count() if gpus else 0
    if gpus and devices < gpus:
        raise ConfigError(f"engine.gpus={gpus:g}: this machine has {devices} GPUs; legal: at most as many, 0 for none")
    fitting = cores() // threads
    if gpus:
        fitting = min(fitting, devices * int(1 / gpus) if gpus < 1 else int(devices / gpus))
    return wanted or fitting
