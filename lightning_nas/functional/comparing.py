"""Statistics of several runs of several methods: what may be said of a difference, and how surely.

A stratum is a tensor with the figures of the runs of one task (a search space with a data set), higher is better. The
bootstrap draws runs anew within each stratum, so that every task keeps its weight. Source of the statistics over runs:
Agarwal et al., NeurIPS 2021, arXiv:2108.13264; of those over tasks: Demsar, JMLR 7 (2006) 1-30.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import chi2, studentized_range, wilcoxon
from scipy.stats import f as f_distribution
from torch import Tensor

from lightning_nas.errors import NumericalError

# -- figures of one method --------------------------------------------------------------------------------------


def interquartile_mean(values: Tensor) -> Tensor:
    r"""Mean of the middle half: a quarter of the values, rounded down, is cut off at either end.

    .. math:: \frac{1}{n - 2 \lfloor n/4 \rfloor} \sum_{i = \lfloor n/4 \rfloor + 1}^{n - \lfloor n/4 \rfloor} v_{(i)}

    Args:
        values: (..., n).

    Returns:
        (...).

    Example:
        >>> interquartile_mean(torch.tensor([0.0, 1.0, 2.0, 3.0, 100.0])).item()
        2.0
    """
    count = values.shape[-1]
    cut = count // 4
    return values.double().sort(-1).values[..., cut : count - cut].mean(-1)


def optimality_gap(values: Tensor, best: float) -> Tensor:
    """Mean shortfall from the best known figure; what is above it counts as reaching it.

    >>> optimality_gap(torch.tensor([0.5, 0.75, 1.25]), best=1.0).item()
    0.25
    """
    return best - values.double().clamp(max=best).mean(-1)


# -- differences between two methods ----------------------------------------------------------------------------


def probability_of_improvement(first: Tensor, second: Tensor) -> Tensor:
    r"""Probability that a run of the first method is better than one of the second; a tie counts half.

    .. math:: \frac{1}{nm} \sum_{ij} [x_i > y_j] + \tfrac{1}{2} [x_i = y_j]

    Args:
        first: (..., n), runs of one task.
        second: (..., m), runs of the same task.

    Returns:
        (...), in 0 to 1.

    Example:
        >>> probability_of_improvement(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])).item()
        0.875
    """
    signs = (first.unsqueeze(-1) > second.unsqueeze(-2)).double() - (
        first.unsqueeze(-1) < second.unsqueeze(-2)
    ).double()
    return (signs.mean((-2, -1)) + 1) / 2


def signed_rank_p(differences: Tensor) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test, by SciPy: exact for few pairs; 1 where no pair differs.

    >>> signed_rank_p(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    if not bool((differences != 0).any()):
        return 1.0
    return float(wilcoxon(differences.double().numpy()).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    r"""P values corrected for their number by the step-down of Holm (Scand. J. Statist. 6 (1979) 65-70).

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)})

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


# -- intervals --------------------------------------------------------------------------------------------------


def stratified_interval(
    statistic: Callable[[Sequence[Tensor]], Tensor],
    strata: Sequence[Tensor],
    generator: torch.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap in which every stratum is resampled on its own, to its own size.

    Args:
        statistic: maps the strata, each (resamples, runs), to (resamples,).
        strata: each (runs,).
        generator: draws the resamples, on the CPU.
        resamples: number of resamples.
        level: confidence level, between 0 and 1.

    Returns:
        (low, high).

    Raises:
        NumericalError: a figure is not finite.
        ValueError: there is no stratum, an empty one, or ``level`` or ``resamples`` is out of range.

    Example:
        >>> runs = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([11.0, 12.0, 13.0])]
        >>> low, high = stratified_interval(pooled(interquartile_mean), runs, torch.Generator().manual_seed(0))
        >>> 1 < low < 7 < high < 13
        True
    """
    if not strata or resamples < 1 or not 0 < level < 1 or any(not len(runs) for runs in strata):
        raise ValueError(f"strata with runs, resamples >= 1, 0 < level < 1; got {len(strata)}, {resamples}, {level}")
    for runs in strata:
        if not runs.isfinite().all():
            raise NumericalError(f"the figures to compare hold {runs[~runs.isfinite()][0].item()}")
    drawn = [runs.double()[torch.randint(len(runs), (resamples, len(runs)), generator=generator)] for runs in strata]
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = statistic(drawn).double().quantile(tails).tolist()
    return low, high


def pooled(statistic: Callable[[Tensor], Tensor]) -> Callable[[Sequence[Tensor]], Tensor]:
    """The statistic of all strata as one sample."""
    return lambda strata: statistic(torch.cat([*strata], -1))


def mean_over_tasks(strata: Sequence[Tensor]) -> Tensor:
    """The mean over strata of the mean of each, so that tasks weigh the same whatever their number of runs."""
    return torch.stack([runs.double().mean(-1) for runs in strata]).mean(0)


def improvement_over_tasks(strata: Sequence[Tensor]) -> Tensor:
    """The mean over tasks of :func:`probability_of_improvement`.

    Args:
        strata: of the first method by task, then of the second.
    """
    half = len(strata) // 2
    pairs = zip(strata[:half], strata[half:], strict=True)
    return torch.stack([probability_of_improvement(first, second) for first, second in pairs]).mean(0)


# -- several methods on several tasks ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over tasks.

    Attributes:
        ranks: mean rank of each method; 1 is best, ties share the mean of their ranks.
        chi2: Friedman's statistic, corrected for ties; NaN where all figures are tied.
        p: of it, by the chi-squared distribution.
        f: the less conservative statistic of Iman and Davenport; infinite where all tasks agree.
        f_p: of it, by the F distribution.
    """

    ranks: tuple[float, ...]
    chi2: float
    p: float
    f: float
    f_p: float


def friedman(figures: Tensor) -> Friedman:
    r"""Whether the methods' ranks differ by more than chance (Demsar 2006, section 3.2.2).

    .. math:: \chi^2_F = \frac{12 N}{k (k + 1)} \Bigl[\sum_j R_j^2 - \frac{k (k + 1)^2}{4}\Bigr] / c, \quad
        F_F = \frac{(N - 1) \chi^2_F}{N (k - 1) - \chi^2_F}, \quad
        c = 1 - \frac{\sum_{\text{ties}} t^3 - t}{N k (k^2 - 1)}

    Args:
        figures: (tasks, methods), higher is better.

    Example:
        >>> test = friedman(torch.tensor([[0.9, 0.8, 0.7], [0.8, 0.6, 0.7], [0.5, 0.4, 0.3]]))
        >>> test.ranks, round(test.chi2, 3), round(test.f, 3)
        ((1.0, 2.333..., 2.666...), 4.667, 7.0)
    """
    tasks, methods = figures.shape
    if tasks < 2 or methods < 2:
        raise ValueError(f"Friedman's test needs two tasks and two methods; got {tasks} and {methods}")
    above = (figures.unsqueeze(-2) > figures.unsqueeze(-1)).double().sum(-1)
    level = (figures.unsqueeze(-2) == figures.unsqueeze(-1)).double().sum(-1)
    ranks = (above + (level + 1) / 2).mean(0)
    ties = 1 - float((level**2 - 1).sum()) / (tasks * methods * (methods**2 - 1))
    if ties == 0:
        return Friedman(tuple(ranks.tolist()), math.nan, 1.0, math.nan, 1.0)
    spread = float((ranks**2).sum()) - methods * (methods + 1) ** 2 / 4
    statistic = 12 * tasks / (methods * (methods + 1)) * spread / ties
    left = tasks * (methods - 1) - statistic
    f = (tasks - 1) * statistic / left if left > 1e-9 else math.inf
    f_p = float(f_distribution.sf(f, methods - 1, (methods - 1) * (tasks - 1)))
    return Friedman(tuple(ranks.tolist()), statistic, float(chi2.sf(statistic, methods - 1)), f, f_p)


def critical_difference(methods: int, tasks: int, alpha: float = 0.05) -> float:
    r"""Nemenyi's: mean ranks that differ by less are not told apart (Demsar 2006, section 3.2.2).

    .. math:: CD = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}, \qquad
        q_\alpha \text{ of the studentised range over } \sqrt{2}

    Example:
        >>> round(critical_difference(methods=4, tasks=14), 2)
        1.25
    """
    return (
        float(studentized_range.ppf(1 - alpha, methods, math.inf))
        / math.sqrt(2)
        * math.sqrt(methods * (methods + 1) / (6 * tasks))
    )


def cliques(ranks: Sequence[float], width: float) -> list[tuple[int, int]]:
    """The longest stretches of methods, sorted by rank, whose ranks differ by less than ``width``: (first, last).

    >>> cliques([1.0, 1.5, 2.4, 4.0], width=1.0)
    [(0, 1), (1, 2)]
    """
    found = list[tuple[int, int]]()
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] < width)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


# -- one run over its time --------------------------------------------------------------------------------------


def incumbents(rewards: Tensor) -> Tensor:
    """(n,) to (n,): the place of the best reward so far; of equal ones the earliest.

    >>> incumbents(torch.tensor([0.1, 0.3, 0.2, 0.3, 0.4])).tolist()
    [0, 1, 1, 1, 4]
    """
    best, places = -math.inf, list[int]()
    for place, reward in enumerate(rewards.tolist()):
        if reward > best or not places:
            best, at = reward, place
        places.append(at)
    return torch.tensor(places, dtype=torch.long)


def held_at(times: Tensor, values: Tensor, moments: Tensor) -> Tensor:
    """The value that holds at each moment: that of the last time not after it; NaN before the first.

    Args:
        times: (n,), rising.
        values: (n,), from each time on.
        moments: (m,).

    Example:
        >>> held_at(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.75]), torch.tensor([0.0, 1.0, 2.0, 9.0])).tolist()
        [nan, 0.5, 0.5, 0.75]
    """
    places = torch.searchsorted(times.contiguous(), moments.contiguous(), right=True) - 1
    held = values.double()[places.clamp(min=0)]
    return held.where(places >= 0, torch.nan)


def time_to(times: Tensor, values: Tensor, wanted: float) -> float | None:
    """The first time at which a curve has reached a value; None if it never does.

    >>> time_to(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0.5, 0.7, 0.6]), wanted=0.65)
    3.0
    """
    reached = (values >= wanted).nonzero()
    return float(times[int(reached[0])]) if len(reached) else None


# -- two objectives ---------------------------------------------------------------------------------------------


def hypervolume(scores: Tensor, costs: Tensor, reference: tuple[float, float]) -> float:
    """Area that the points dominate: higher scores and lower costs than a reference.

    Args:
        scores: (n,), higher is better.
        costs: (n,), lower is better.
        reference: (score, cost), the worst corner; points beyond it dominate nothing.

    Example:
        >>> hypervolume(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), reference=(0.0, 3.0))
        3.0
    """
    area, reached = 0.0, reference[0]
    for cost, score in sorted(zip(costs.tolist(), scores.tolist(), strict=True), key=lambda p: (p[0], -p[1])):
        if cost < reference[1] and score > reached:
            area += (reference[1] - cost) * (score - reached)
            reached = score
    return area
