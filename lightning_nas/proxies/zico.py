"""Inverse variation of gradients (Li, Yang, Bhardwaj and Marculescu, ZiCo, ICLR 2023, arXiv:2301.11300)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from lightning_nas.errors import InputError
from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weight_gradients


def zico(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, parts: int = 2) -> float:
    r"""Gradients that are large and agree from batch to batch.

    .. math:: \sum_l \log \sum_{\omega \in \theta_l}
              \frac{\mathbb{E}_b |\partial L_b / \partial \omega|}
              {\sqrt{\mathrm{Var}_b (\partial L_b / \partial \omega)}}

    Weights whose gradient is the same in all parts, as where it is zero, are left out; so is a layer of such weights.

    Source: Li et al., ICLR 2023, arXiv:2301.11300, equation 15. Deviation: the batches are parts of the one given.

    Args:
        network: with convolutions or linear layers.
        batch: images (N, C, H, W) and targets; N at least ``parts``.
        loss: of the task, a mean over the batch.
        parts: number of batches, at least 2.

    Raises:
        InputError: fewer images than parts.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(1.0)
        >>> batch = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]])
        >>> round(zico(layer, batch, nn.MSELoss()), 4)  # gradients 2 and 8: log of mean 5 by deviation 3
        0.5108
    """
    if len(batch[0]) < parts:
        raise InputError(f"zico: {len(batch[0])} images for {parts} parts; legal: at least one image a part")
    pieces = zip(batch[0].tensor_split(parts), batch[1].tensor_split(parts), strict=True)
    found: list[list[Tensor]] = []
    with copied(network) as made:
        for x, y in pieces:
            value = loss(made(placed(network, x)), placed(network, y))
            found.append([gradient.double() for _, gradient in weight_gradients(made, value)])
    total = 0.0
    for gradients in map(torch.stack, zip(*found, strict=True)):
        deviation = gradients.std(0, correction=0)
        quotients = (gradients.abs().mean(0) / deviation)[deviation > 0]
        total += quotients.sum().log().item() if len(quotients) else 0.0
    return total


class Zico(Proxy):
    """Inverse coefficient of variation of gradients.

    Args:
        parts: number of batches that the one given is cut into.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(1.0)
        >>> batch = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
        >>> round(Zico(parts=2)(layer, batch, nn.MSELoss(), torch.Generator()), 4)
        0.5108
    """

    def __init__(self, parts: Annotated[int, Interval(ge=2, le=1000)] = 2) -> None:
        self.parts = parts

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return zico(network, batch, loss, self.parts)
