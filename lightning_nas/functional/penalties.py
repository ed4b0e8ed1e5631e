"""Losses and rewards that combine task and cost, as the papers define them."""

from typing import TypeVar

from torch import Tensor

Scalar = TypeVar("Scalar", float, Tensor)


def fbnet_loss(loss: Tensor, latency: Tensor, alpha: float, beta: float) -> Tensor:
    r"""FBNet's product of cross entropy and latency (arXiv:1812.03443, equation 2).

    .. math:: L = \mathrm{CE} \cdot \alpha \log(\mathrm{LAT})^\beta

    with the natural logarithm. The best-known re-implementation uses :math:`\log(\mathrm{LAT}^\beta)`, a different
    function.

    Args:
        loss: the task's loss, a scalar.
        latency: scalar, above 1 in its unit (microseconds), so that its logarithm is positive.
        alpha: scale.
        beta: exponent.

    Example:
        >>> import torch
        >>> round(fbnet_loss(torch.tensor(1.0), torch.tensor(100.0), 0.2, 0.6).item(), 5)
        0.50001
    """
    return loss * alpha * latency.log() ** beta


def mul_log_loss(loss: Tensor, latency: Tensor, reference: Tensor, alpha: float, beta: float) -> Tensor:
    r"""ProxylessNAS' product "mul#log" (arXiv:1812.00332, released code).

    .. math:: L = \mathrm{CE} \cdot \alpha \left(\frac{\log \mathrm{LAT}}{\log \mathrm{ref}}\right)^\beta

    Args:
        loss: the task's loss, a scalar.
        latency: scalar above 1, so that its logarithm is positive.
        reference: latency whose factor is ``alpha``, a scalar above 1.
        alpha: scale.
        beta: exponent.

    Example:
        >>> import torch
        >>> round(mul_log_loss(torch.tensor(2.5), torch.tensor(90.0), torch.tensor(80.0), 0.2, 0.3).item(), 6)
        0.503994
    """
    return loss * alpha * (latency.log() / reference.log()) ** beta


def add_linear_loss(loss: Tensor, latency: Tensor, reference: float, weight: float) -> Tensor:
    r"""ProxylessNAS' sum "add#linear" (arXiv:1812.00332, released code).

    .. math:: L = \mathrm{CE} + \lambda \, (\mathrm{LAT} - \mathrm{ref}) / \mathrm{ref}

    Args:
        loss: the task's loss, a scalar.
        latency: scalar.
        reference: latency at which nothing is added.
        weight: :math:`\lambda`.

    Example:
        >>> import torch
        >>> round(add_linear_loss(torch.tensor(2.5), torch.tensor(90.0), 80.0, 0.1).item(), 6)
        2.5125
    """
    return loss + weight * (latency - reference) / reference


def mnasnet_reward(accuracy: Scalar, latency: Scalar, target: float, alpha: float, beta: float) -> Scalar:
    r"""MnasNet's trade-off of accuracy and latency (arXiv:1807.11626, equations 2 and 3).

    .. math:: R = \mathrm{ACC} \cdot (\mathrm{LAT} / T)^w, \qquad
              w = \alpha \text{ if } \mathrm{LAT} \le T \text{ else } \beta

    Args:
        accuracy: quantity to maximise.
        latency: above 0.
        target: :math:`T`, in the latency's unit.
        alpha: exponent up to the target: -0.07 (soft), 0 (hard).
        beta: exponent beyond it: -0.07 (soft), -1 (hard).

    Example:
        >>> round(mnasnet_reward(0.75, 78.0, 75.0, -0.07, -0.07), 7)
        0.7479437
        >>> round(mnasnet_reward(0.75, 78.0, 75.0, 0.0, -1.0), 7)
        0.7211538
    """
    factor: Scalar = (latency / target) ** (alpha if latency <= target else beta)
    return accuracy * factor


def next_multiplier(multiplier: float, gap: float, before: float, integral: float, proportional: float) -> float:
    r"""The multiplier of a constraint after a step of a PI controller, which is an augmented Lagrangian's.

    .. math:: \lambda \leftarrow \max(0, \lambda + \eta g_t + \omega (g_t - g_{t-1})), \qquad g = c / T - 1

    Source: Ramirez and Lacoste-Julien, arXiv:2509.22500.

    Args:
        multiplier: now, at least 0.
        gap: relative excess of the cost over the target; negative where there is room.
        before: the gap of the step before.
        integral: gain of the gap.
        proportional: gain of its change.

    Example:
        >>> next_multiplier(0.5, gap=0.25, before=0.125, integral=1.0, proportional=2.0)
        1.0
        >>> next_multiplier(0.5, gap=-1.0, before=-1.0, integral=1.0, proportional=2.0)
        0.0
    """
    return max(0.0, multiplier + integral * gap + proportional * (gap - before))
