"""The number of processes and threads that a machine of this size bears."""

from __future__ import annotations

import os

from lightning_nas.errors import ConfigError

_EACH, _LEAST = 8, 32  # processes for each core, and on a small machine


def cores() -> int:
    """Number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_processes(said: str, count: int) -> None:
    """Refuse several times more processes or threads than the machine has cores; each takes memory before it works.

    Args:
        said: the number with its key, for the error.
        count: the number.

    Raises:
        ConfigError: more than 8 for each core, and more than 32.

    Example:
        >>> check_processes("dataset.num_workers=32", 32)
        >>> check_processes("dataset.num_workers=1000000", 1_000_000)
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: dataset.num_workers=1000000: this machine has ... cores; legal: at most ...
    """
    most = max(_LEAST, _EACH * cores())
    if count > most:
        raise ConfigError(f"{said}: this machine has {cores()} cores; legal: at most {most}")
