"""Sample-wise activation patterns (Peng, Song, Fayek, Ciesielski and Chang, ICLR 2024, arXiv:2403.04161)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.patterns import activation_patterns

_BITS = 62  # images whose signs fit into one integer


def swap(network: nn.Module, x: Tensor) -> float:
    r"""The number of different sample-wise patterns of the rectified units.

    .. math:: \left| \{ (\mathbb{1}[a_u(x_1) > 0], \dots, \mathbb{1}[a_u(x_N) > 0]) : u \} \right|

    A unit's pattern says which images of the batch switch it on; units with the same pattern count once.

    Source: Peng et al., ICLR 2024, arXiv:2403.04161, definitions 3.3 and 3.4, without the regularisation by size of
    section 3.3. Deviations: none known.

    Args:
        network: with ReLU or ReLU6.
        x: images (N, C, H, W).

    Returns:
        1 to the smaller of the number of units and 2^N.

    Raises:
        InputError: the network has no rectified units.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0], [2.0]]))
        >>> swap(net, torch.tensor([[3.0], [-2.0]]))  # the first and the last unit see the same image
        2.0
    """
    packed = torch.cat([_packed(pattern) for pattern in activation_patterns(network, x)], 1)
    return float(torch.unique(packed, dim=1).shape[1])


def _packed(pattern: Tensor) -> Tensor:
    """(N, units) as integers (N / 62, units), the images of a unit being bits."""
    parts = torch.split(pattern, _BITS)
    rows = [(part.long() << torch.arange(len(part), device=part.device)[:, None]).sum(0) for part in parts]
    return torch.stack(rows)


class Swap(Proxy):
    """Sample-wise activation patterns.

    >>> net = nn.Sequential(nn.Linear(1, 64), nn.ReLU())
    >>> Swap()(net, (torch.tensor([[3.0], [-2.0]]), torch.zeros(2)), nn.MSELoss(), torch.Generator()) <= 4
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return swap(network, batch[0])
