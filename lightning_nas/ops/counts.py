"""Counts of multiply-adds and parameters of a network."""

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_COUNTED = {"aten.convolution", "aten._convolution", "aten.mm", "aten.addmm"}


def count_macs(network: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """Count the multiply-adds of convolutions and matrix products for one example.

    A copy in evaluation mode runs on the meta device, so nothing is computed and ``network`` is unchanged. Where its
    code asks for values, the copy runs on zeros.

    Args:
        network: takes a tensor of shape (N, *input_shape).
        input_shape: shape of one example: (C, H, W) for images, (T,) for words.
        dtype: type of the example, int64 for words.

    Example:
        >>> count_macs(nn.Conv2d(3, 8, kernel_size=3, padding=1), (3, 10, 10))  # 10 * 10 * 3 * 8 * 3 * 3
        21600
    """
    try:
        flops = _run(copy.deepcopy(network).to("meta").eval(), torch.empty(1, *input_shape, dtype=dtype, device="meta"))
    except RuntimeError:
        here = next(network.parameters()).device
        if here.type == "meta":
            raise
        flops = _run(copy.deepcopy(network).eval(), torch.zeros(1, *input_shape, dtype=dtype, device=here))
    return sum(int(count) for operation, count in flops.items() if str(operation) in _COUNTED) // 2


def _run(network: nn.Module, x: torch.Tensor) -> dict[Any, int]:
    """Operations of each kind, where a multiply-add is two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return dict(counter.get_flop_counts().get("Global", {}))


def count_params(network: nn.Module) -> int:
    """Count the parameters, trainable or not, without buffers.

    >>> count_params(nn.Conv2d(3, 8, kernel_size=3))
    224
    """
    return sum(parameter.numel() for parameter in network.parameters())
