"""Connection sensitivity (Lee, Ajanthan and Torr, SNIP, ICLR 2019, arXiv:1810.02340), summed over all weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weight_gradients


def snip(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss) -> float:
    r"""How much the loss would change if single weights were removed.

    .. math:: \sum_l \left| \theta_l \odot \partial L / \partial \theta_l \right|_1

    Source: Lee et al., ICLR 2019, arXiv:1810.02340, equation 5, without the normalisation that only prunes; the sum is
    of Abdelfattah et al., ICLR 2021, arXiv:2101.08134, section 3.2. Deviations: none known.

    Args:
        network: with convolutions or linear layers.
        batch: images (N, C, H, W) and targets.
        loss: of the task.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(2.0)
        >>> batch = torch.tensor([[3.0]]), torch.tensor([[0.0]])
        >>> snip(layer, batch, nn.MSELoss())  # 2 times 2 * 6 * 3
        72.0
    """
    with copied(network) as made:
        x, y = (placed(network, part) for part in batch)
        pairs = weight_gradients(made, loss(made(x), y))
    return sum((weight * gradient).abs().sum(dtype=torch.float64).item() for weight, gradient in pairs)


class Snip(Proxy):
    """Connection sensitivity.

    >>> Snip()(nn.Linear(3, 2), (torch.rand(2, 3), torch.zeros(2, 2)), nn.MSELoss(), torch.Generator()) >= 0
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return snip(network, batch, loss)
