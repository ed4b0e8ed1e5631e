"""Parameters, multiply-adds and depth: scores that need no data, the baselines of every other one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.proxies.base import Loss, Proxy, copied, placed

_WEIGHTED = ("ConvolutionBackward0", "AddmmBackward0", "MmBackward0")


def depth(network: nn.Module, x: Tensor) -> int:
    """Number of layers with weights on the longest path from the input to the output.

    Counted in the graph that autograd records, so that branches that do not reach the output do not count.

    Args:
        network: any network.
        x: one example or more, (N, ...); only its shape matters.

    Example:
        >>> long = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> depth(long, torch.zeros(1, 4))
        2
    """
    with copied(network) as made:
        output = made.eval()(placed(network, x[:1]))
    known = dict[object, int]()
    pending = [output.grad_fn]
    while pending:  # after all that come before it; a graph may be deeper than Python's stack
        node = pending[-1]
        before = [] if node is None else [other for other, _ in node.next_functions if other is not None]
        if waiting := [other for other in before if other not in known]:
            pending += waiting
            continue
        pending.pop()
        if node is not None:
            known[node] = max((known[other] for other in before), default=0) + (node.name() in _WEIGHTED)
    return known.get(output.grad_fn, 0)


class Params(Proxy):
    """The number of parameters.

    >>> Params()(nn.Linear(4, 2), (torch.zeros(1, 4), torch.zeros(1)), nn.MSELoss(), torch.Generator())
    10.0
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return float(count_params(network))


class Macs(Proxy):
    """The number of multiply-adds for one example.

    >>> Macs()(nn.Linear(4, 2), (torch.zeros(1, 4), torch.zeros(1)), nn.MSELoss(), torch.Generator())
    8.0
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return float(count_macs(network, tuple(batch[0].shape[1:]), batch[0].dtype))


class Depth(Proxy):
    """The number of layers with weights on the longest path.

    >>> Depth()(nn.Linear(4, 2), (torch.zeros(1, 4), torch.zeros(1)), nn.MSELoss(), torch.Generator())
    1.0
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return float(depth(network, batch[0]))
