"""Gradient signal preservation (Wang, Zhang and Grosse, GraSP, ICLR 2020, arXiv:2002.07376), summed over weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weighted_layers


def grasp(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss) -> float:
    r"""How much the norm of the gradient would change if weights were removed.

    .. math:: -\sum_l \mathbb{1}^\top \big( \theta_l \odot (H g)_l \big) \mathbb{1}, \quad
              g = \partial L / \partial \theta, \quad H = \partial^2 L / \partial \theta^2

    Source: Wang et al., ICLR 2020, arXiv:2002.07376, equation 8, with the temperature 1 and the one batch of
    Abdelfattah et al., ICLR 2021, arXiv:2101.08134, who sum it and take the higher sum for the better network.
    Deviations: none known.

    Args:
        network: with convolutions or linear layers, twice differentiable.
        batch: images (N, C, H, W) and targets.
        loss: of the task.

    Returns:
        Of either sign.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(2.0)
        >>> batch = torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> grasp(layer, batch, nn.MSELoss())  # g = 4, H = 2
        -16.0
    """
    with copied(network) as made:
        x, y = (placed(network, part) for part in batch)
        weights = [layer.weight for layer in weighted_layers(made)]
        gradients = torch.autograd.grad(
            loss(made(x), y), weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        product = torch.stack([(gradient.detach() * gradient).sum() for gradient in gradients]).sum()
        curved = torch.autograd.grad(product, weights, allow_unused=True, materialize_grads=True)
    pairs = zip(weights, curved, strict=True)
    return -sum((weight.detach() * curve).sum(dtype=torch.float64).item() for weight, curve in pairs)


class Grasp(Proxy):
    """Gradient signal preservation.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(2.0)
    >>> Grasp()(layer, (torch.ones(1, 1), torch.zeros(1, 1)), nn.MSELoss(), torch.Generator())  # -w times 2 times 2 w
    -16.0
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return grasp(network, batch, loss)
