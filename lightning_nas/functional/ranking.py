"""Agreement of two rankings of architectures.

Every statistic takes ``scores`` and ``truth`` of shape (..., n), one entry an architecture, higher is better, and works
on all leading dimensions at once, which makes :func:`bootstrap_interval` fast.
"""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from scipy.stats import kendalltau
from torch import Tensor

from lightning_nas.errors import NumericalError

Number = TypeVar("Number", float, Tensor)
_CHUNK = 2**22  # pairs compared at once: 16 MiB of float32 a matrix


def kendall_tau(scores: Tensor, truth: Tensor) -> Tensor:
    r"""Kendall's tau-b, the rank correlation that allows for ties.

    .. math:: \tau_b = \frac{\sum_{ij} \operatorname{sgn}(s_i - s_j) \operatorname{sgn}(t_i - t_j)}
        {\sqrt{\sum_{ij} \operatorname{sgn}^2(s_i - s_j) \sum_{ij} \operatorname{sgn}^2(t_i - t_j)}}

    Computed over all pairs, because ``torchmetrics``' loop takes 3 ms a call (3 s for a bootstrap) and gives 0.33 for
    an input with a NaN. Source: Kendall, Biometrika 33 (1945) 239-251.

    Args:
        scores: (..., n).
        truth: (..., n).

    Returns:
        (...), in -1 to 1; NaN where either input is constant or n < 2.

    Raises:
        NumericalError: an input is not finite.
        ValueError: the shapes differ.

    Example:
        >>> kendall_tau(torch.tensor([1.0, 2.0, 3.0, 3.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])).item()
        0.547...
    """
    return _cosine(*(signs.flatten(-2) for signs in _signs(scores, truth)))


def p_tau(tau: Number) -> Number:
    """Share of pairs in the same order, ``(tau + 1) / 2``, if no pair is tied.

    >>> p_tau(0.5)
    0.75
    """
    return (tau + 1) / 2


def spearman(scores: Tensor, truth: Tensor) -> Tensor:
    r"""Spearman's rho: Pearson's correlation of the ranks, where ties have the mean of their ranks.

    .. math:: \rho = \frac{\sum_i a_i b_i}{\sqrt{\sum_i a_i^2 \sum_i b_i^2}}, \quad
        a_i = \operatorname{rank}(s_i) - \tfrac{n + 1}{2} = \tfrac{1}{2} \sum_j \operatorname{sgn}(s_i - s_j)

    Shapes, NaN, errors and source as for :func:`kendall_tau`.

    Example:
        >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])).item()
        0.5
    """
    return _cosine(*(signs.sum(-1, dtype=torch.float64) for signs in _signs(scores, truth)))


def precision_at_top(scores: Tensor, truth: Tensor, k: int) -> Tensor:
    """Share of the true top ``k`` that is in the top ``k`` of ``scores``.

    If the k-th place is tied, the mean over all ways to break the tie, so that the order of the input does not matter.

    Args:
        scores: (..., n).
        truth: (..., n).
        k: 1 to n.

    Returns:
        (...), in 0 to 1.

    Raises:
        NumericalError: an input is not finite.
        ValueError: the shapes differ, or ``k`` is out of range.

    Example:
        >>> precision_at_top(torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([4.0, 1.0, 3.0, 2.0]), k=2).item()
        0.5
        >>> precision_at_top(torch.zeros(4), torch.arange(4.0), k=2).item()  # a blind guess
        0.5
    """
    signs = _signs(scores, truth)
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"k is 1 to the number of architectures, {scores.shape[-1]}; got {k}")
    count = functools.partial(torch.sum, dim=-1, dtype=torch.float64)
    found, wanted = (((k - count(s < 0)) / count(s == 0)).clamp(0, 1) for s in signs)
    return (found * wanted).sum(-1) / k


def diverged_last(scores: Tensor) -> Tensor:
    """Scores in which minus infinity, that of networks that diverged, is below every other score and finite.

    >>> diverged_last(torch.tensor([0.5, -math.inf, 0.25])).tolist()
    [0.5, -0.75, 0.25]
    """
    finite = scores[scores.isfinite()]
    return scores.where(scores != -math.inf, finite.min() - 1 if len(finite) else 0.0)


def chance_level(scores: Tensor, truth: Tensor) -> float:
    """Probability that a random order has a Kendall tau-b at least as far from 0, on the same side.

    SciPy's one-sided p value: exact without ties for up to 33 architectures, else by the normal approximation. NaN
    where tau is.

    Shapes (n,), errors as for :func:`kendall_tau`.

    Example:
        >>> chance_level(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0]))  # one of six orders
        0.16666666666666666
    """
    _check(scores, truth)
    if len(scores) < 2:
        return math.nan
    pairs = scores.cpu().numpy(), truth.cpu().numpy()
    side = "less" if kendall_tau(scores, truth) < 0 else "greater"
    return float(kendalltau(*pairs, alternative=side).pvalue)


TOO_FEW = "too few to say"
BETTER = "ranks better than chance and than multiply-adds alone"
BELOW_MACS = "ranks worse than multiply-adds alone"
BELOW_CHANCE = "ranks worse than chance"


def verdict(tau: float, interval: tuple[float, float], chance: float, by_macs: float) -> str:
    """The statement that a rank check allows: one of ``TOO_FEW``, ``BETTER``, ``BELOW_MACS``, ``BELOW_CHANCE``.

    Too few architectures where the interval holds 0 or the tau of multiply-adds, or where more than 2.5 % of random
    orders are as far from 0 on the same side: of three architectures in perfect order every resample is perfect,
    but so is one random order of six.

    Args:
        tau: Kendall's tau between scores and truth.
        interval: of tau, 95 %.
        chance: :func:`chance_level` of it.
        by_macs: tau between multiply-adds and truth; NaN if it is not defined.

    Example:
        >>> verdict(0.6, (-0.09, 1.0), 0.07, 0.33)
        'too few to say'
        >>> verdict(0.6, (0.45, 0.72), 1e-6, 0.33)
        'ranks better than chance and than multiply-adds alone'
    """
    low, high = interval
    if not all(map(math.isfinite, (tau, low, high, chance))) or chance > 0.025:
        return TOO_FEW
    if low <= 0 <= high or low <= by_macs <= high:
        return TOO_FEW
    if high < 0:
        return BELOW_CHANCE
    return BELOW_MACS if high < by_macs else BETTER


def bootstrap_interval(
    statistic: Callable[[Tensor, Tensor], Tensor],
    scores: Tensor,
    truth: Tensor,
    generator: torch.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    r"""Percentile bootstrap over architectures: ``level`` of the resampled statistics lie in the interval.

    .. math:: [Q_{(1 - level) / 2}, Q_{(1 + level) / 2}] \text{ of } \{f(s_{I}, t_{I})\}, \quad
        I \sim \mathrm{Uniform}\{1..n\}^n

    Resamples on which the statistic is NaN (one architecture drawn n times, for one) are dropped.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        statistic: maps two tensors (resamples, n) to (resamples,), as the functions of this module do.
        scores: (n,).
        truth: (n,).
        generator: draws the resamples, on the CPU.
        resamples: number of resamples.
        level: confidence level, between 0 and 1.

    Returns:
        (low, high); (nan, nan) if no resample can be used.

    Raises:
        NumericalError: an input is not finite.
        ValueError: an input is not one row, the shapes differ, or ``level`` or ``resamples`` is out of range.

    Example:
        >>> truth = torch.arange(20.0)
        >>> noisy = truth + 5 * torch.randn(20, generator=torch.Generator().manual_seed(0))
        >>> low, high = bootstrap_interval(kendall_tau, noisy, truth, torch.Generator().manual_seed(1))
        >>> low < kendall_tau(noisy, truth).item() < high
        True
    """
    if scores.dim() != 1 or resamples < 1 or not 0 < level < 1:
        raise ValueError(f"one row, resamples >= 1, 0 < level < 1; got {tuple(scores.shape)}, {resamples}, {level}")
    _check(scores, truth)
    n = len(scores)
    if n == 0:
        return math.nan, math.nan
    drawn = torch.randint(n, (resamples, n), generator=generator).to(scores.device)
    parts = torch.split(drawn, max(1, _CHUNK // n**2))
    values = torch.cat([statistic(scores[part], truth[part]) for part in parts]).double()
    values = values[values.isfinite()]
    if not len(values):
        return math.nan, math.nan
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype, device=values.device)
    low, high = values.quantile(tails).tolist()
    return low, high


def _signs(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n, n) matrices of -1, 0, 1: is i above, level with or below j."""
    _check(scores, truth)
    # comparisons, not differences: the difference of two large values may round to zero
    pairs = ((x.unsqueeze(-1), x.unsqueeze(-2)) for x in (scores, truth))
    first, second = ((a > b).float() - (a < b).float() for a, b in pairs)
    return first, second


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """(..., m) twice to (...): NaN where one of them is zero."""
    product = functools.partial(torch.einsum, "...i,...i->...")
    return product(a, b) / (product(a, a).double() * product(b, b).double()).sqrt()


def _check(scores: Tensor, truth: Tensor) -> None:
    if scores.shape != truth.shape or not scores.dim():
        raise ValueError(f"scores and truth are of one shape (..., n); got {tuple(scores.shape)}, {tuple(truth.shape)}")
    for name, values in (("scores", scores), ("truth", truth)):
        if not values.isfinite().all():
            worst = values[~values.isfinite()][0].item()
            raise NumericalError(f"the {name} to rank hold {worst}; a rank correlation needs finite numbers")
