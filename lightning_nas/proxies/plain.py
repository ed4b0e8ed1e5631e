"""Weight times gradient with its sign (Mozer and Smolensky, NeurIPS 1988), summed over all weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weight_gradients


def plain(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss) -> float:
    r"""Sum of weight times gradient: SNIP's without the absolute value, a baseline of it.

    .. math:: \sum_l \mathbb{1}^\top (\theta_l \odot \partial L / \partial \theta_l) \mathbb{1}

    Source: Mozer and Smolensky, NeurIPS 1988; the sum as ``plain`` in the code of Abdelfattah et al., ICLR 2021,
    arXiv:2101.08134. Deviations: none known.

    Args:
        network: with convolutions or linear layers.
        batch: images (N, C, H, W) and targets.
        loss: of the task.

    Returns:
        Of either sign; near 0 for a layer that a batch norm follows, whose loss does not depend on the layer's scale.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(2.0)
        >>> batch = torch.tensor([[3.0]]), torch.tensor([[9.0]])
        >>> plain(layer, batch, nn.MSELoss())  # 2 times 2 * -3 * 3
        -36.0
    """
    with copied(network) as made:
        x, y = (placed(network, part) for part in batch)
        pairs = weight_gradients(made, loss(made(x), y))
    return sum((weight * gradient).sum(dtype=torch.float64).item() for weight, gradient in pairs)


class Plain(Proxy):
    """Weight times gradient.

    >>> Plain()(nn.Linear(3, 2), (torch.zeros(2, 3), torch.zeros(2, 2)), nn.MSELoss(), torch.Generator())
    0.0
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return plain(network, batch, loss)
