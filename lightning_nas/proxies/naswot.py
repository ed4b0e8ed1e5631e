"""Neural architecture search without training (Mellor, Turner, Storkey and Crowley, ICML 2021, arXiv:2006.04647)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.patterns import activation_patterns


def naswot(network: nn.Module, x: Tensor) -> float:
    r"""How differently the images of a batch switch the rectified units on.

    .. math:: \log \det K, \quad K_{ij} = N_A - d_H(c_i, c_j)

    with :math:`c_i` the on-off code of image i over all :math:`N_A` units and :math:`d_H` the Hamming distance.

    Source: Mellor et al., ICML 2021, arXiv:2006.04647, section 3.1. Deviation: the units are those of ReLU and ReLU6
    wherever they are called, the authors' code watches modules of one class.

    Args:
        network: with ReLU or ReLU6.
        x: images (N, C, H, W), N at least 2.

    Returns:
        Minus infinity where two images have the same code, or where the determinant is not above zero.

    Raises:
        InputError: the network has no rectified units.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> round(naswot(net, torch.tensor([[3.0], [-2.0]])), 4)  # K = 2 I, so log 4
        1.3863
    """
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)
    for pattern in activation_patterns(network, x):
        code = pattern.float()  # counts below 2^24 are exact
        both, on = (code @ code.T).double().cpu(), code.sum(1, dtype=torch.float64).cpu()
        kernel += 2 * both - on[:, None] - on[None, :] + code.shape[1]
    sign, logarithm = torch.linalg.slogdet(kernel)
    return logarithm.item() if sign > 0 else -torch.inf


class Naswot(Proxy):
    """Distinct codes of a batch.

    >>> net = nn.Sequential(nn.Linear(1, 64), nn.ReLU())
    >>> Naswot()(net, (torch.tensor([[3.0], [-2.0]]), torch.zeros(2)), nn.MSELoss(), torch.Generator()) > 0
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return naswot(network, batch[0])
