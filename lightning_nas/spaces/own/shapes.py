"""Shapes of functions that torch decomposes in Python where tensors have no values, which takes ten times longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Answers norms and linear layers on the meta device by the shapes of their arguments; else torch answers.

    Example:
        >>> x = torch.empty(2, 3, 8, device="meta")
        >>> with Shapes():
        ...     y = F.linear(F.layer_norm(x, (8,)), torch.empty(5, 8, device="meta"))
        >>> tuple(y.shape)
        (2, 3, 5)
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = _TOLD.get(func)
        if told is not None and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return told(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *rest: Any,
    **more: Any,
) -> Tensor:
    del rest, more
    _are((running_mean, running_var, weight, bias), (x.shape[1],))
    return torch.empty_like(x)


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    del eps
    shape = tuple(normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise RuntimeError(f"a norm over {shape} is given {tuple(x.shape)}")
    _are((weight, bias), shape)
    return torch.empty_like(x)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        raise RuntimeError(f"a weight {tuple(weight.shape)} is given {tuple(x.shape)}")
    _are((bias,), (weight.shape[0],))
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _are(tensors: Sequence[Tensor | None], shape: tuple[int, ...]) -> None:
    for tensor in tensors:
        if tensor is not None and tuple(tensor.shape) != shape:
            raise RuntimeError(f"{tuple(tensor.shape)} parameters are given {shape} channels")


_TOLD: dict[Any, Callable[..., Tensor]] = {
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.linear: _linear,
}
