"""What this machine can run at once; what nobody has is refused at once instead of waited for."""

from __future__ import annotations

import os

from lightning_nas.errors import ConfigError

_CLOSE = 1e-9  # ten times 0.1 is one


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fitting(has: float, each: float) -> int:
    """How many shares fit.

    >>> fitting(1, 0.1), fitting(3, 2)
    (10, 1)
    """
    return int(has / each + _CLOSE)


def check_gpus(gpus: float) -> None:
    """Refuse shares that are neither a fraction of one GPU nor whole ones.

    Raises:
        ConfigError: they are.
    """
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"engine.gpus={gpus:g}: legal: a fraction of one, e.g. 0.25, or a whole number")


def slots_of(wanted: int | None, *, threads: int, gpus: float) -> int:
    """How many children run at once.

    Args:
        wanted: by the configuration; None for as many as cores and GPUs allow.
        threads: of each child.
        gpus: of each child; a fraction lets several share one.

    Raises:
        ConfigError: there is not one slot, or fewer GPUs than the wanted slots have.

    Example:
        >>> slots_of(3, threads=1, gpus=0)
        3
    """
    check_gpus(gpus)
    if threads > cores():
        raise ConfigError(f"engine.threads={threads}: this machine has {cores()} cores; legal: at most as many")
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
    """The GPUs of a slot, as CUDA_VISIBLE_DEVICES names them; none without."""
    if not gpus:
        return ""
    visible = _visible()
    if gpus < 1:
        return visible[slot // fitting(1, gpus)]
    return ",".join(visible[slot * int(gpus) : (slot + 1) * int(gpus)])


def _visible() -> list[str]:
    """The GPUs this process sees, by the names they have for its children."""
    import torch

    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (names or list(map(str, range(torch.cuda.device_count()))))[: torch.cuda.device_count()]
