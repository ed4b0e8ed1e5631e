"""Resources of this machine and the number of children that they allow."""

from __future__ import annotations

import os

from lightning_nas.errors import ConfigError
from lightning_nas.processes import check_processes, cores

_CLOSE = 1e-9  # ten times 0.1 is one


def fitting(has: float, each: float) -> int:
    """Number of shares of size ``each`` that fit.

    >>> fitting(1, 0.1), fitting(3, 2)
    (10, 1)
    """
    return int(has / each + _CLOSE)


def check_gpus(gpus: float, key: str = "engine.gpus") -> None:
    """Refuse a number of GPUs that is neither a fraction of one nor whole.

    Raises:
        ConfigError: the number is above 1 and not whole.
    """
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"{key}={gpus:g}: legal: a fraction of one, e.g. 0.25, or a whole number")


def slots_of(wanted: int | None, *, threads: int, gpus: float) -> int:
    """Number of children that run at once.

    Args:
        wanted: number in the configuration; None for as many as cores and GPUs allow.
        threads: threads of each child.
        gpus: GPUs of each child; with a fraction several children share one.

    Raises:
        ConfigError: there is no room for one child, many more slots than cores, or fewer GPUs than they need.

    Example:
        >>> slots_of(3, threads=1, gpus=0)
        3
    """
    check_gpus(gpus)
    if threads > cores():
        raise ConfigError(f"engine.threads={threads}: this machine has {cores()} cores; legal: at most as many")
    check_processes(f"engine.slots={wanted}", wanted or 1)
    if not gpus:
        return wanted or cores() // threads
    devices = len(_visible())
    room = devices * fitting(1, gpus) if gpus < 1 else fitting(devices, gpus)
    if not room or (wanted or 1) > room:
        raise ConfigError(
            f"engine.gpus={gpus:g}, engine.slots={wanted or 'null'}: this machine has {devices} GPUs, room for {room} "
            "children; legal: at most as many, engine.gpus=0 for none"
        )
    return wanted or min(room, cores() // threads)


def devices_of(slot: int, gpus: float) -> str:
    """GPUs of a slot, in the form of CUDA_VISIBLE_DEVICES; empty without GPUs."""
    if not gpus:
        return ""
    visible = _visible()
    if gpus < 1:
        return visible[slot // fitting(1, gpus)]
    return ",".join(visible[slot * int(gpus) : (slot + 1) * int(gpus)])


def _visible() -> list[str]:
    """Names of the GPUs that this process sees, as its children must use them."""
    import torch

    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (names or list(map(str, range(torch.cuda.device_count()))))[: torch.cuda.device_count()]
