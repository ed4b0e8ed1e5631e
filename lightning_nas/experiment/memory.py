"""Check that a network fits into the memory of the machine, before it is allocated."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from lightning_nas.errors import ConfigError
from lightning_nas.processes import machine_memory
from lightning_nas.training.recalibrate import kept_buffers
from lightning_nas.training.seeding import seeded

Made = TypeVar("Made")
_AT_ONCE = 2**31  # bytes; a network that needs more is counted to its end before it is made
_COPIES = 4  # of each parameter: itself, its gradient, and the two averages of Adam
_FILLS = ("uniform_", "normal_", "zero_", "fill_", "kaiming_uniform_", "kaiming_normal_")


class _TooLarge(Exception):
    pass


def within_memory(what: str, make: Callable[[], Made], *, memory: int | None = None) -> Made:
    """What ``make`` makes, if its parameters with gradients and optimiser state fit into memory.

    Parameters are counted as modules get them, before they are filled. From 2 GB on they are counted to the end before
    any is filled, so that an absurd size is refused at once. Activations come on top, see
    :func:`check_training_memory`.

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
    there, state = machine_memory() if memory is None else memory, torch.get_rng_state()
    try:
        try:
            return _counted(make, min(there, _AT_ONCE))
        except _TooLarge:
            if there > _AT_ONCE:
                torch.set_rng_state(state)
                with _Unfilled():
                    _counted(make, there)
                torch.set_rng_state(state)
                return make()
            raise
    except _TooLarge as reason:
        raise ConfigError(
            f"{what} needs at least {reason.args[0] / 1e9:.3g} GB for its parameters, their gradients and the state of "
            f"the optimiser; here are {there / 1e9:.3g} GB: make it smaller (fewer layers, cells or channels)"
        ) from None
    except (RuntimeError, MemoryError) as reason:
        if not (is_out_of_memory(reason) or "overflow" in str(reason).lower()):
            raise
        asked = re.search(r"tried to allocate (\d+) bytes", str(reason))
        needs = f"needs at least {int(asked[1]) / 1e9:.3g} GB" if asked else "has sizes beyond what can be counted"
        raise ConfigError(
            f"{what} {needs}; here are {there / 1e9:.3g} GB: make it smaller (fewer layers, cells or channels)"
        ) from None


def _counted(make: Callable[[], Made], most: int) -> Made:
    """What ``make`` makes; :class:`_TooLarge` as soon as its parameters need more than ``most`` bytes."""
    needed = 0

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal needed
        needed += _COPIES * parameter.nbytes if parameter is not None else 0
        if needed > most:
            raise _TooLarge(needed)

    hook = register_module_parameter_registration_hook(count)
    try:
        return make()
    finally:
        hook.remove()


class _Unfilled(TorchFunctionMode):
    """Leaves new tensors without values, so that they take no memory."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _FILLS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def check_training_memory(
    what: str,
    network: nn.Module,
    run: Callable[[int], Any],
    samples: int,
    *,
    memory: int,
    advice: str,
    share: float = 1,
) -> None:
    """Refuse a training whose parameters and activations come to more than the memory.

    Takes the forward pass of two samples, and of three where the first figure leaves a doubt: what does not grow with
    the samples, such as folded weights, is counted once.

    Args:
        what: the network, in words.
        network: to be trained; stays as it is.
        run: a forward pass of the network on that many samples.
        samples: of a batch.
        memory: bytes there are.
        advice: what makes it smaller.
        share: part of the activations that is kept: a half where they are kept in 16 bits.

    Raises:
        ConfigError: it does not fit.

    Example:
        >>> network = nn.Linear(500, 9)
        >>> def check(memory):
        ...     run = lambda samples: network(torch.empty(samples, 500))
        ...     check_training_memory("it", network, run, 10_000, memory=memory, advice="lower batch_size")
        >>> check(10**9)
        >>> check(10**7)
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: it needs at least 0.0201 GB: 7.22e-05 for its parameters, their gradients ...
    """
    parameters = _COPIES * sum(parameter.nbytes for parameter in network.parameters())
    few = min(2, samples)
    try:
        kept = kept_for_backward(network, lambda: run(few), most=memory)
        total = kept * samples / few * share
        if parameters + total > memory and few < samples <= memory:
            more = kept_for_backward(network, lambda: run(few + 1), most=memory) - kept
            total = (kept + more * (samples - few)) * share
    except _TooLarge:
        total = float(memory)
    except Exception as reason:  # noqa: BLE001 - a network that cannot take two samples: no estimate
        if not is_out_of_memory(reason):
            return
        total = float(memory)
    if parameters + total > memory:
        raise ConfigError(
            f"{what} needs at least {(parameters + total) / 1e9:.3g} GB: {parameters / 1e9:.3g} for its parameters, "
            f"their gradients and the state of the optimiser, {total / 1e9:.3g} for what the backward pass of a batch "
            f"needs; here are {memory / 1e9:.3g} GB: {advice}"
        )


def kept_for_backward(network: nn.Module, run: Callable[[], Any], *, most: int | None = None) -> int:
    """Bytes that autograd keeps from a forward pass to its backward pass, without those of the parameters.

    Args:
        network: stays as it is, its buffers and torch's generator too.
        run: the forward pass.
        most: bytes at which the pass ends with an error; None to count them all.

    Example:
        >>> network = nn.Linear(3, 4)
        >>> kept_for_backward(network, lambda: network(torch.empty(5, 3)))
        60
    """
    own, kept, total = set[int](), dict[int, torch.UntypedStorage](), 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage._cdata not in own and storage._cdata not in kept:
            kept[storage._cdata] = storage
            total += storage.nbytes()
            if most is not None and total > most:
                raise _TooLarge
        return tensor

    with seeded(0, "memory"), kept_buffers(network), saved_tensors_hooks(keep, lambda tensor: tensor):
        own.update(one.untyped_storage()._cdata for one in chain(network.parameters(), network.buffers()))
        run()
    return total


def is_out_of_memory(reason: Exception) -> bool:
    """Whether an error says that memory could not be had, on the host or on a GPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("CUDA out of memory"))
    (True, True)
    """
    if isinstance(reason, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("alloc", "out of memory")
    return isinstance(reason, RuntimeError) and any(word in str(reason).lower() for word in words)


def training_memory(trainer: Any) -> int:
    """Bytes of memory where a Trainer trains: of the GPU where it uses one.

    Args:
        trainer: one, or a partial of its class.
    """
    accelerator = getattr(trainer, "keywords", {}).get("accelerator", "auto")
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return min(machine_memory(), torch.cuda.get_device_properties(0).total_memory)
    return machine_memory()
