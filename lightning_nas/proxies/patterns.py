"""Which rectified units a batch switches on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_nas.errors import InputError
from lightning_nas.proxies.base import copied, placed

_RELU = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}
_CLIPPED = {torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Note the signs of what ReLU and ReLU6 give, modules and functions alike."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        if func in _RELU or (func in _CLIPPED and len(args) > 1 and args[1] == 0):
            self.seen.append((given > 0).flatten(1))
        return given


@torch.no_grad()
def activation_patterns(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Which units of each ReLU or ReLU6 are above zero, in the order in which they run.

    The network is in training mode: batch norms use the statistics of ``x``.

    Args:
        network: with rectified units.
        x: images (N, C, H, W).

    Returns:
        Booleans (N, units) of each.

    Raises:
        InputError: the network has no rectified units.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> [pattern.tolist() for pattern in activation_patterns(net, torch.tensor([[3.0], [-2.0]]))]
        [[[True, False], [False, True]]]
    """
    watch = _Watch()
    with copied(network) as made, torch.no_grad(), watch:
        made(placed(network, x))
    if not watch.seen:
        raise InputError(f"{type(network).__name__} has no ReLU and no ReLU6; naswot and swap are made of them")
    return watch.seen
