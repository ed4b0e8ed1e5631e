"""Norm of the gradient (Abdelfattah, Mehrotra, Dudziak and Lane, ICLR 2021, arXiv:2101.08134)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weight_gradients


def grad_norm(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss) -> float:
    r"""Sum of the Euclidean norms of the gradients of all layers.

    .. math:: \sum_l \lVert \partial L / \partial \theta_l \rVert_2

    Source: Abdelfattah et al., ICLR 2021, arXiv:2101.08134, section 3.1. Deviations: none known.

    Args:
        network: with convolutions or linear layers.
        batch: images (N, C, H, W) and targets.
        loss: of the task.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 0.0]]))
        >>> batch = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0]])
        >>> grad_norm(layer, batch, nn.MSELoss())  # |2 * 3 * (3, 4)|
        30.0
    """
    with copied(network) as made:
        x, y = (placed(network, part) for part in batch)
        pairs = weight_gradients(made, loss(made(x), y))
    return math.fsum(gradient.double().square().sum().sqrt().item() for _, gradient in pairs)


class GradNorm(Proxy):
    """Norm of the gradient.

    >>> GradNorm()(nn.Linear(3, 2), (torch.rand(2, 3), torch.zeros(2, 2)), nn.MSELoss(), torch.Generator()) >= 0
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return grad_norm(network, batch, loss)
