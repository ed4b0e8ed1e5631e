"""What a policy gradient asks for besides a network."""

from itertools import accumulate

import torch
from torch import Tensor


def reinforce_loss(log_probabilities: Tensor, rewards: Tensor, baseline: float | Tensor) -> Tensor:
    """A scalar whose gradient is REINFORCE's: mean of (reward - baseline) times minus the log-probability's.

    Args:
        log_probabilities: (samples,), differentiable.
        rewards: (samples,).
        baseline: what a reward is compared with; one for all, or (samples,).
    """
    return -((rewards - baseline) * log_probabilities).mean()


def ppo_loss(log_probabilities: Tensor, before: Tensor, advantages: Tensor, clip: float) -> Tensor:
    r"""Minus the clipped objective of proximal policy optimisation (Schulman et al., 2017, arXiv:1707.06347, eq. 7).

    .. math:: -\frac{1}{m} \sum_k \min\big(r_k A_k,\ \mathrm{clip}(r_k, 1 - \epsilon, 1 + \epsilon) A_k\big),
              \qquad r_k = \pi(a_k) / \pi_\text{before}(a_k)

    Args:
        log_probabilities: (samples,), differentiable.
        before: (samples,), what they were when the samples were drawn.
        advantages: (samples,), rewards less what they are compared with.
        clip: :math:`\epsilon`.

    Example:
        >>> ratios, same = torch.tensor([1.5, 0.5, 0.5, 1.5]), torch.zeros(4)
        >>> ppo_loss(ratios.log(), same, torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.2)  # -(1.2 + 0.5 - 0.8 - 1.5) / 4
        tensor(0.1500)
    """
    ratios = (log_probabilities - before).exp()
    return -torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages).mean()


def moving_baselines(rewards: Tensor, baseline: float, decay: float) -> Tensor:
    """An exponentially moving average after each of the rewards, (samples,); the last one is where to go on.

    Args:
        rewards: (samples,).
        baseline: before the first of them.
        decay: how much of it each reward leaves.

    Example:
        >>> moving_baselines(torch.tensor([1.0, 1.0]), 0.0, 0.9)
        tensor([0.1000, 0.1900])
    """
    moved = accumulate(rewards.tolist(), lambda old, new: old - (1 - decay) * (old - new), initial=baseline)
    return torch.tensor(list(moved)[1:]).to(rewards)


def bounded_logits(logits: Tensor, temperature: float | None, bound: float | None) -> Tensor:
    """``bound * tanh(logits / temperature)``: a controller stays unsure (Bello et al., 2017, arXiv:1611.09940).

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
    """ENAS' penalty of a layer's connections (arXiv:1802.03268): KL divergence of how likely they are from ``share``.

    As the authors' code has it, each of the two logits goes through a sigmoid of its own.

    Args:
        logits: (..., connections, 2) of "not connected" and "connected".
        share: of the connections that are wanted.

    Returns:
        (...), summed over the connections.

    Example:
        >>> connection_divergence(torch.tensor([[0.6, 0.4]]).logit(), 0.4).abs().item() < 1e-6
        True
    """
    wanted = torch.tensor([1 - share, share]).to(logits)
    chances = logits.sigmoid()
    return torch.xlogy(chances, chances / wanted).sum((-2, -1))
