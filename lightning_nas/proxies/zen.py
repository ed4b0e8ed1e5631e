"""Zen-score (Lin et al., Zen-NAS, ICCV 2021, arXiv:2102.01063): expected Gaussian complexity of a network."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Interval
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas.errors import InputError
from lightning_nas.proxies.base import Loss, Proxy, copied, placed, weighted_layers


@torch.no_grad()
def zen(network: nn.Module, x: Tensor, rng: torch.Generator, repeats: int = 4, gamma: float = 0.01) -> float:
    r"""How strongly the features answer a small change of random images, scaled back from every batch norm.

    .. math:: \frac{1}{R} \sum_r \Big( \log \mathbb{E}_n \lVert f(x_n) - f(x_n + \gamma \epsilon_n) \rVert_1
              + \sum_k \log \bar{\sigma}_k \Big), \quad \theta, x, \epsilon \sim \mathcal{N}(0, 1)

    f are the features before the global pooling, or before the last linear layer where there is no pooling;
    :math:`\bar{\sigma}_k^2` is the mean over channels of the variance that batch norm k sees in :math:`x`.

    Source: Lin et al., ICCV 2021, arXiv:2102.01063, algorithm 1. Deviations: the variances are those of the batch, as
    in the paper; the authors' code takes running averages that begin at 1. Residual connections stay, as in their
    code.

    Args:
        network: with a global average pooling (``AdaptiveAvgPool2d``) or a linear layer at its end.
        x: images (N, C, H, W), of which only the shape matters.
        rng: of the weights, images and changes.
        repeats: number of draws, R.
        gamma: size of the change.

    Returns:
        Minus infinity or NaN where the features do not depend on the images.

    Raises:
        InputError: the network has neither.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> few, many = (zen(net, torch.zeros(8, 1, 6, 6), torch.Generator(), gamma=size) for size in (0.01, 1.0))
        >>> round(many - few, 3)  # log 100: this network is linear
        4.605
    """
    seen: list[Tensor] = []

    def note(layer: nn.Module, inputs: Any) -> None:
        seen.append(inputs[0])

    scores = []
    with copied(network) as made, torch.no_grad():
        _features(made).register_forward_pre_hook(note)
        norms = [module for module in made.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0  # its running variance is that of the last batch
            norm.reset_running_stats()
        for _ in range(repeats):
            _draw(made, rng)
            images, change = (placed(network, torch.randn(x.shape, generator=rng)) for _ in range(2))
            made(images)
            variances = [norm.running_var.double() for norm in norms if norm.running_var is not None]
            spread = math.fsum(variance.mean().sqrt().log().item() for variance in variances)
            made(images + gamma * change)
            before, after = (features.double() for features in seen[-2:])
            scores.append((before - after).abs().flatten(1).sum(1).mean().log().item() + spread)
    return sum(scores) / repeats


def _draw(network: nn.Module, rng: torch.Generator) -> None:
    """Draw all weights of convolutions and linear layers from the normal distribution; no biases."""
    for layer in weighted_layers(network):
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng))
        if layer.bias is not None:
            layer.bias.zero_()


def _features(network: nn.Module) -> nn.Module:
    """The last global pooling that ends the network, else its last linear layer."""
    parts = list(network.modules())
    pools = [part for part in parts if isinstance(part, nn.AdaptiveAvgPool2d)]
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    if not pools and not linear:
        raise InputError(
            f"zen: {type(network).__name__} has neither an AdaptiveAvgPool2d nor a linear layer at its end"
        )
    return (pools or linear)[-1]


class Zen(Proxy):
    """Zen-score.

    Args:
        repeats: number of draws of weights and images.
        gamma: size of the change of the images.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))
        >>> score = Zen(repeats=1)
        >>> batch = torch.zeros(8, 1, 6, 6), torch.zeros(8)
        >>> score(net, batch, nn.MSELoss(), torch.Generator()) == score(net, batch, nn.MSELoss(), torch.Generator())
        True
    """

    def __init__(self, repeats: Annotated[int, Interval(ge=1, le=1000)] = 4, gamma: PositiveFloat = 0.01) -> None:
        self.repeats, self.gamma = repeats, gamma

    def __call__(self, network: nn.Module, batch: tuple[Tensor, Tensor], loss: Loss, rng: torch.Generator) -> float:
        return zen(network, batch[0], rng, self.repeats, self.gamma)
