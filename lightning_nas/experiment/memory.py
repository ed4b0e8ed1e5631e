"""Whether a network fits into the memory of the machine, said before it is allocated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from lightning_nas.errors import ConfigError

Made = TypeVar("Made")
_COPIES = 4  # of each parameter: itself, its gradient, and the two averages of Adam
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class _TooLarge(Exception):
    pass


def within_memory(what: str, make: Callable[[], Made], *, memory: int | None = None) -> Made:
    """What ``make`` makes, if its parameters with gradients and optimiser state fit into memory.

    Parameters are counted as modules get them, before they are filled, so that this costs nothing and an absurd size is
    refused within milliseconds. Activations come on top and are not counted.

    Args:
        what: the network, in words.
        make: builds it.
        memory: bytes there are; None for those of this machine.

    Raises:
        ConfigError: it does not fit.

    Example:
        >>> within_memory("this layer", lambda: nn.Linear(4, 4, bias=False), memory=1000)
        Linear(in_features=4, out_features=4, bias=False)
        >>> within_memory("this layer", lambda: nn.Linear(40_000, 40_000, bias=False), memory=2_000_000_000)
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: this layer needs at least 25.6 GB for its parameters, their gradients ...
    """
    there, needed = machine_memory() if memory is None else memory, 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal needed
        needed += _COPIES * parameter.numel() * parameter.element_size() if parameter is not None else 0
        if needed > there:
            raise _TooLarge

    hook = register_module_parameter_registration_hook(count)
    try:
        return make()
    except _TooLarge:
        raise ConfigError(
            f"{what} needs at least {needed / 1e9:.3g} GB for its parameters, their gradients and the state of the "
            f"optimiser; here are {there / 1e9:.3g} GB: make it smaller (fewer layers, cells or channels)"
        ) from None
    except (RuntimeError, MemoryError) as reason:
        if not (is_out_of_memory(reason) or "overflow" in str(reason).lower()):
            raise
        raise ConfigError(f"{what} is too large for this machine ({there / 1e9:.3g} GB): make it smaller") from None
    finally:
        hook.remove()


def is_out_of_memory(reason: Exception) -> bool:
    """Whether an error says that memory could not be had, on the host or on a GPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA out of memory"))
    (True, True)
    """
    if isinstance(reason, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("alloc", "out of memory")
    return isinstance(reason, RuntimeError) and any(word in str(reason).lower() for word in words)


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [Path(file).read_text().strip() for file in _CGROUPS if Path(file).is_file()]
    return min([physical, *(int(text) for text in texts if text.isdigit())])


def training_memory(trainer: Any) -> int:
    """Bytes of memory where a Trainer trains: of the GPU where it uses one.

    Args:
        trainer: one, or a partial of its class.
    """
    accelerator = getattr(trainer, "keywords", {}).get("accelerator", "auto")
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return min(machine_memory(), torch.cuda.get_device_properties(0).total_memory)
    return machine_memory()
