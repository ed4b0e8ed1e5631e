"""Acquisition functions: how much a candidate is worth a trial, by an ensemble's predictions of its reward.

``predictions`` is (E, n): of E members for n candidates. The mean of the members is the prediction, their standard
deviation its uncertainty; with a single member the uncertainty is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr

BETA = 0.5


def independent_thompson(predictions: Tensor, generator: torch.Generator) -> Tensor:
    r"""Independent Thompson sampling: one draw for each candidate from a normal distribution of its own.

    .. math:: \phi_i \sim N(\hat f_i, \hat\sigma_i^2)

    Source: White, Neiswanger and Savani, AAAI 2021, arXiv:1910.11858, section 5.

    Args:
        predictions: (E, n).
        generator: draws the numbers, on the CPU.

    Returns:
        (n,), higher is better.

    Example:
        >>> certain = torch.tensor([[0.2, 0.7], [0.2, 0.7]])
        >>> independent_thompson(certain, torch.Generator().manual_seed(0)).tolist()
        [0.2..., 0.69...]
    """
    mean, spread = _moments(predictions)
    return mean + spread * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


def upper_confidence_bound(predictions: Tensor, beta: float = BETA) -> Tensor:
    r"""Upper confidence bound: :math:`\phi_i = \hat f_i + \beta \hat\sigma_i`.

    Args:
        predictions: (E, n).
        beta: weight of the uncertainty, 0.5 in the paper of BANANAS.

    Returns:
        (n,), higher is better.

    Example:
        >>> upper_confidence_bound(torch.tensor([[0.0, 0.5], [2.0, 0.5]])).tolist()
        [1.70..., 0.5]
    """
    mean, spread = _moments(predictions)
    return mean + beta * spread


def expected_improvement(predictions: Tensor, best: float) -> Tensor:
    r"""Expected improvement over the best reward so far, if rewards are normal.

    .. math:: \phi_i = (\hat f_i - b) \Phi(z_i) + \hat\sigma_i \varphi(z_i), \quad z_i = (\hat f_i - b) / \hat\sigma_i

    Args:
        predictions: (E, n).
        best: b, in the unit of the predictions.

    Returns:
        (n,), at least 0.

    Example:
        >>> expected_improvement(torch.tensor([[0.0, 3.0], [0.0, 3.0]]), best=1.0).tolist()
        [0.0, 2.0]
    """
    mean, spread = _moments(predictions)
    above = mean - best
    z = above / spread.clamp(min=torch.finfo(mean.dtype).tiny)
    density = torch.exp(-0.5 * z.square()) / (2 * torch.pi) ** 0.5
    return torch.where(spread > 0, above * ndtr(z) + spread * density, above).clamp(min=0)


def _moments(predictions: Tensor) -> tuple[Tensor, Tensor]:
    mean = predictions.mean(0)
    return mean, predictions.std(0) if len(predictions) > 1 else torch.zeros_like(mean)
