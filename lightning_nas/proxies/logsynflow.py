"""Logarithmic synaptic flow (Cavagnero, Robbiano, Caputo and Averta, FreeREA, WACV 2023, arXiv:2207.05135)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy
from lightning_nas.proxies.synflow import flow_gradients


def logsynflow(network: nn.Module, x: Tensor) -> float:
    r"""Synaptic flow whose gradients are scaled down, so that a few layers do not outweigh all others.

    .. math:: \sum_l \left| |\theta_l| \odot \log(\partial R / \partial |\theta_l| + 1) \right|_1

    with the flow R of :func:`~lightning_nas.proxies.synflow.flow_gradients`.

    Source: Cavagnero et al., WACV 2023, arXiv:2207.05135, section 3.2. Deviations: none known.

    Args:
        network: with convolutions or linear layers.
        x: images (N, C, H, W); only the shape of one matters.

    Returns:
        At least 0.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 7.0]]))
        >>> round(logsynflow(layer, torch.zeros(1, 2)), 4)  # 10 log(2): both gradients are 1
        6.9315
    """
    flows = [(weight * (gradient + 1).log()).abs().sum() for weight, gradient in flow_gradients(network, x)]
    return torch.stack(flows).sum().item()


class LogSynflow(Proxy):
    """Logarithmic synaptic flow.

    >>> LogSynflow()(nn.Linear(4, 2), (torch.zeros(1, 4), torch.zeros(1)), nn.MSELoss(), torch.Generator()) > 0
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return logsynflow(network, batch[0])
