"""Fisher information of channels (Theis et al., 2018, arXiv:1801.05787; Turner et al., ICLR 2020, arXiv:1906.04113)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weighted_layers


def fisher(network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss) -> float:
    r"""How much the loss would change if channels were removed.

    .. math:: \sum_l \sum_c \frac{1}{2N} \sum_n
              \Big( \sum_{h,w} z_{l,nchw} \, \partial L / \partial z_{l,nchw} \Big)^2

    with the output :math:`z_l` of every convolution and linear layer.

    Source: Turner et al., ICLR 2020, arXiv:1906.04113, equation 3; the sum is of Abdelfattah et al., ICLR 2021,
    arXiv:2101.08134, section 3.2. Deviations: none known.

    Args:
        network: with convolutions or linear layers.
        batch: images (N, C, H, W) and targets.
        loss: of the task.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = layer.weight.data.fill_(2.0)
        >>> batch = torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> fisher(layer, batch, nn.MSELoss())  # z = 2, its gradient 4: half of 8 squared
        32.0
    """
    outputs: list[tuple[Tensor, bool]] = []

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        outputs.append((output, isinstance(layer, nn.Linear)))
        return output.clone()  # what follows may write into it

    with copied(network) as made:
        for layer in weighted_layers(made):
            layer.register_forward_hook(note)
        x, y = (placed(network, part) for part in batch)
        value = loss(made(x), y)
        noted = [output for output, _ in outputs]
        gradients = torch.autograd.grad(value, noted, allow_unused=True, materialize_grads=True)
    total = 0.0
    for (output, linear), gradient in zip(outputs, gradients, strict=True):
        product = (output.detach() * gradient).double()
        channels = product.movedim(-1, 1) if linear else product
        total += (
            channels.flatten(2).sum(-1).square().mean(0).sum().item() / 2
            if channels.dim() > 2
            else (channels.square().mean(0).sum().item() / 2)
        )
    return total


class Fisher(Proxy):
    """Fisher information of channels.

    >>> Fisher()(nn.Linear(3, 2), (torch.rand(2, 3), torch.zeros(2, 2)), nn.MSELoss(), torch.Generator()) >= 0
    True
    """

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return fisher(network, batch, loss)
