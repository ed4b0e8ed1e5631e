"""Losses and baselines of policy gradients."""

from itertools import accumulate

import torch
from torch import Tensor


def reinforce_loss(log_probabilities: Tensor, rewards: Tensor, baseline: float | Tensor) -> Tensor:
    r"""Loss whose gradient is that of REINFORCE (Williams, Machine Learning 8 (1992) 229-256).

    .. math:: -\frac{1}{m} \sum_k (R_k - b_k) \log \pi(a_k)

    Args:
        log_probabilities: (samples,), differentiable.
        rewards: (samples,).
        baseline: subtracted from the rewards; one for all, or (samples,).

    Example:
        >>> reinforce_loss(torch.tensor([0.5, 0.25]).log(), torch.tensor([1.0, 0.0]), 0.5)
        tensor(-0.1733)
    """
    return -((rewards - baseline) * log_probabilities).mean()


def ppo_loss(log_probabilities: Tensor, before: Tensor, advantages: Tensor, clip: float) -> Tensor:
    r"""Minus the clipped objective of proximal policy optimisation (Schulman et al., 2017, arXiv:1707.06347, eq. 7).

    .. math:: -\frac{1}{m} \sum_k \min\big(r_k A_k,\ \mathrm{clip}(r_k, 1 - \epsilon, 1 + \epsilon) A_k\big),
              \qquad r_k = \pi(a_k) / \pi_\text{before}(a_k)

    Args:
        log_probabilities: (samples,), differentiable.
        before: (samples,), log-probabilities when the samples were drawn.
        advantages: (samples,), rewards minus their baseline.
        clip: :math:`\epsilon`.

    Example:
        >>> ratios, same = torch.tensor([1.5, 0.5, 0.5, 1.5]), torch.zeros(4)
        >>> ppo_loss(ratios.log(), same, torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.2)  # -(1.2 + 0.5 - 0.8 - 1.5) / 4
        tensor(0.1500)
    """
    ratios = (log_probabilities - before).exp()
    return -torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages).mean()


def moving_baselines(rewards: Tensor, baseline: float, decay: float) -> Tensor:
    """Exponential moving average after each reward; the last value is the baseline to continue from.

    Args:
        rewards: (samples,).
        baseline: average before the first reward.
        decay: weight of the old average at each reward.

    Returns:
        (samples,).

    Example:
        >>> moving_baselines(torch.tensor([1.0, 1.0]), 0.0, 0.9)
        tensor([0.1000, 0.1900])
    """
    moved = accumulate(rewards.tolist(), lambda old, new: old - (1 - decay) * (old - new), initial=baseline)
    return torch.tensor(list(moved)[1:]).to(rewards)


def bounded_logits(logits: Tensor, temperature: float | None, bound: float | None) -> Tensor:
    """Bound logits by ``bound * tanh(logits / temperature)``, so that a controller explores.

    Source: Bello et al., 2017, arXiv:1611.09940.

    Args:
        logits: any shape.
        temperature: None for 1.
        bound: None for no tanh.

    Example:
        >>> bounded_logits(torch.tensor([0.0, 1e6]), 5.0, 2.5).tolist()
        [0.0, 2.5]
    """
    if temperature is not None:
        logits = logits / temperature
    return logits if bound is None else bound * logits.tanh()


def connection_divergence(logits: Tensor, share: float) -> Tensor:
    """ENAS' penalty on skip connections (arXiv:1802.03268): KL divergence of their probabilities from ``share``.

    As in the authors' code, each of the two logits goes through its own sigmoid.

    Args:
        logits: (..., connections, 2) of "not connected" and "connected".
        share: wanted share of connections.

    Returns:
        (...), summed over the connections.

    Example:
        >>> connection_divergence(torch.tensor([[0.6, 0.4]]).logit(), 0.4).abs().item() < 1e-6
        True
    """
    wanted = torch.tensor([1 - share, share]).to(logits)
    chances = logits.sigmoid()
    return torch.xlogy(chances, chances / wanted).sum((-2, -1))
