"""Synaptic flow (Tanaka, Kunin, Yamins and Ganguli, NeurIPS 2020, arXiv:2006.05467), as a score of networks.

Abdelfattah, Mehrotra, Dudziak and Lane (ICLR 2021, arXiv:2101.08134) sum it over all weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weight_gradients, without_batch_norm


def flow_gradients(network: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    r"""Each weight's absolute value with the gradient of the flow.

    .. math:: R = \mathbb{1}^\top f_{|\theta|}(\mathbb{1}), \quad
              \left(|\theta_l|, \partial R / \partial |\theta_l|\right)

    All parameters are replaced by their absolute values, batch norm and dropout pass on what they get, the input is one
    image of ones, and numbers are of double precision, because the flow of a deep network is large.

    Args:
        network: with convolutions or linear layers.
        x: images (N, C, H, W); only the shape of one matters.
    """
    with copied(network) as made:
        for parameter in made.double().parameters():
            parameter.data.abs_()
        ones = torch.ones_like(placed(network, x[:1]), dtype=torch.float64)
        return weight_gradients(made, without_batch_norm(made.eval())(ones).sum())


def synflow(network: nn.Module, x: Tensor) -> float:
    r"""Synaptic flow: the sum over all weights of weight times gradient, both without sign.

    .. math:: \log_{10} \sum_l \left| |\theta_l| \odot \partial R / \partial |\theta_l| \right|_1

    The logarithm keeps the order and spares numbers beyond :math:`10^{15}`.

    Source: Tanaka et al., NeurIPS 2020, arXiv:2006.05467, equation 2; the sum and the missing batch norm are of
    Abdelfattah et al., ICLR 2021, arXiv:2101.08134, section 3.2. Deviation: the logarithm.

    Args:
        network: with convolutions or linear layers.
        x: images (N, C, H, W); only the shape of one matters.

    Returns:
        Minus infinity where nothing flows from the input to the output.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[-3.0, 7.0]]))
        >>> synflow(layer, torch.zeros(1, 2))  # log10(3 + 7)
        1.0
    """
    flows = [(weight * gradient).abs().sum() for weight, gradient in flow_gradients(network, x)]
    return torch.stack(flows).sum().log10().item()


class Synflow(Proxy):
    """Synaptic flow.

    >>> Synflow()(nn.Linear(4, 2), (torch.zeros(1, 4), torch.zeros(1)), nn.MSELoss(), torch.Generator()) < 2
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return synflow(network, batch[0])
