"""The memory of this machine, and the number of processes and threads that it bears."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_nas.errors import ConfigError

_EACH, _LEAST = 8, 32  # processes for each core, and on a small machine
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> int:
    """Number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [Path(file).read_text().strip() for file in _CGROUPS if Path(file).is_file()]
    return min([physical, *(int(text) for text in texts if text.isdigit())])


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
