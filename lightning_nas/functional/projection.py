r"""Projection of a distribution over architectures onto those that keep limits of additive costs.

An architecture takes one alternative of every part. Its score is a sum over the parts, the logarithm of its probability
where choices are independent; so is its cost, besides costs that several parts decide together. Of all that keep the
limits the best is wanted:

.. math:: \max_{a} \sum_i s_i(a_i) \quad \text{with} \quad f_k \le c_{0k} + \sum_i c_{ik}(a_i) + \sum_j
          \mathbb{1}[\text{j runs in } a] \, d_{jk} \le T_k \text{ for all } k,

a multiple-choice knapsack. Dynamic programming over the parts keeps, for every set of shared costs that is still open,
the partial sums that no other beats in score and cost. Costs are never rounded. A partial sum is dropped early if the
Lagrangian bound says that nothing better than a known solution can come of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lightning_nas.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_SHARED = 62  # bits of a partial sum
_QUICK, _BEAM = 128, 512  # partial sums of a pass that finds a good solution
_WIDEST = 100_000  # partial sums of the exact pass
_PAIRS = 500  # partial sums that are compared each with each, where there are several limits
_STEPS = 60  # of the subgradient method


@dataclass(frozen=True)
class Part:
    """The alternatives of one part.

    Attributes:
        scores: of each alternative (m,).
        costs: of each alternative (m, K).
        marks: of each alternative (m,): bit j is set if it turns shared cost j on (or off).
    """

    scores: Floats
    costs: Floats
    marks: Ints


@dataclass(frozen=True)
class Shared:
    """A cost that several parts decide together.

    Attributes:
        costs: (K,).
        when: it is due if "any" of the alternatives taken has its mark, or if "none" has.
    """

    costs: Floats
    when: Literal["none", "any"]


@dataclass(frozen=True)
class Found:
    """A solution.

    Attributes:
        taken: number of the alternative of each part.
        score: sum of its scores.
        costs: (K,), the fixed ones included.
        exact: whether it is known to be the best.
    """

    taken: tuple[int, ...]
    score: float
    costs: Floats
    exact: bool


def project(
    parts: Sequence[Part],
    limits: Sequence[float],
    *,
    fixed: Sequence[float] | None = None,
    shared: Sequence[Shared] = (),
    floor: tuple[int, float] | None = None,
    quick: bool = False,
) -> Found | None:
    """Find the alternatives with the largest sum of scores whose costs keep all limits.

    With one limit the result is the best of all. With a floor, or with several limits, it is so too unless more than
    100,000 partial sums are undecided at once; then ``exact`` is false, and the limits are kept all the same.

    Args:
        parts: at least one.
        limits: upper bound of each of the K costs, inclusive; infinite for none.
        fixed: costs (K,) that are always due; 0 by default.
        shared: costs that several parts decide together, in the order of the bits of ``marks``.
        floor: number of a cost, and a lower bound of it, inclusive.
        quick: be content with a good solution, kept by at most 128 partial sums.

    Returns:
        The solution; None if nothing keeps the limits and the floor.

    Raises:
        InputError: more than 62 shared costs.

    Example:
        >>> layer = Part(np.log([0.7, 0.2, 0.1]), np.array([[9.0], [4.0], [1.0]]), np.zeros(3, int))
        >>> last = Part(np.log([0.5, 0.5]), np.array([[6.0], [2.0]]), np.zeros(2, int))
        >>> found = project([layer, last], [11.0])
        >>> found.taken, found.costs.tolist(), found.exact
        ((0, 1), [11.0], True)
        >>> project([layer, last], [1.5]) is None
        True
    """
    if len(shared) > MOST_SHARED:
        raise InputError(
            f"a projection takes at most {MOST_SHARED} costs that parts decide together, got {len(shared)}"
        )
    order = _together(parts)
    start = np.zeros(len(limits)) if fixed is None else np.asarray(fixed, dtype=np.float64)
    problem = _Problem([parts[i] for i in order], np.asarray(limits, dtype=np.float64), start, shared, floor)
    first = problem.solve(-np.inf, _QUICK if quick else _BEAM)
    best = first
    if first is None or not (first.exact or quick):
        better = problem.solve(-np.inf if first is None else first.score, _WIDEST)
        if better is not None:
            best = better
        elif first is not None:  # the second pass looks for better ones only
            best = Found(first.taken, first.score, first.costs, problem.whole)
    if best is None:
        return None
    taken = [0] * len(parts)
    for place, number in zip(order, best.taken, strict=True):
        taken[place] = number
    return Found(tuple(taken), best.score, best.costs, best.exact)


def least(
    parts: Sequence[Part], number: int, *, fixed: Sequence[float] | None = None, shared: Sequence[Shared] = ()
) -> Found:
    """Find the alternatives whose cost of that number is the smallest.

    Example:
        >>> layer = Part(np.log([0.7, 0.3]), np.array([[9.0], [4.0]]), np.zeros(2, int))
        >>> least([layer, layer], 0).costs.tolist()
        [8.0]
    """
    alone = [Part(np.zeros(len(p.scores)), p.costs[:, [number]], p.marks) for p in parts]
    together = [Shared(one.costs[[number]], one.when) for one in shared]
    found = project(alone, [np.inf], fixed=None if fixed is None else [fixed[number]], shared=together)
    assert found is not None
    return found


def _together(parts: Sequence[Part]) -> list[int]:
    """An order of the parts in which those that decide costs together follow one another."""
    marks = [int(np.bitwise_or.reduce(part.marks)) for part in parts]
    left, order = list(range(len(parts))), list[int]()
    while left:
        reached, joined = marks[left[0]], [left[0]]
        while True:
            more = [i for i in left if i not in joined and marks[i] & reached]
            if not more:
                break
            joined += more
            for i in more:
                reached |= marks[i]
        order += sorted(joined)
        left = [i for i in left if i not in joined]
    return order


class _Problem:
    """A projection with a floor as one more limit, of the negative cost; solved for different widths."""

    def __init__(
        self,
        parts: Sequence[Part],
        limits: Floats,
        fixed: Floats,
        shared: Sequence[Shared],
        floor: tuple[int, float] | None,
    ) -> None:
        rows, signs = list(range(len(limits))), [1.0] * len(limits)
        self.limits, self.bounded_below = limits, floor is not None
        if floor is not None:
            rows, signs = [*rows, floor[0]], [*signs, -1.0]
            self.limits = np.append(limits, -floor[1])
        self.shown = len(limits)  # rows that are costs
        self.fixed = fixed[rows] * signs
        self.costs = [part.costs[:, rows] * signs for part in parts]
        self.scores, self.marks = [part.scores for part in parts], [part.marks for part in parts]
        self.shared = np.array([one.costs[rows] * signs for one in shared]).reshape(len(shared), len(rows))
        self.when = [one.when for one in shared]
        last = [max((i for i, m in enumerate(self.marks) if (m >> j & 1).any()), default=0) for j in range(len(shared))]
        self.closing = [[j for j, at in enumerate(last) if at == i] for i in range(len(parts))]
        self.axis = floor[0] if floor is not None else 0
        self.whole = True
        self._suffixes()

    def _suffixes(self) -> None:
        """The least cost, and under each multiplier the largest score, that the parts from each one on add."""
        count, rows = len(self.costs), len(self.limits)
        self.least = np.zeros((count + 1, rows))
        for i in reversed(range(count)):
            pending = np.minimum(self.shared[self.closing[i]], 0).sum(0)
            self.least[i] = self.least[i + 1] + self.costs[i].min(0) + pending
        self.multipliers = self._multipliers()
        self.most = np.zeros((count + 1, len(self.multipliers)))
        for i in reversed(range(count)):
            reduced = (self.scores[i][:, None] - self.costs[i] @ self.multipliers.T).max(0)
            pending = -np.minimum(self.shared[self.closing[i]] @ self.multipliers.T, 0).sum(0)
            self.most[i] = self.most[i + 1] + reduced + pending

    def _multipliers(self) -> Floats:
        """Multipliers (Q, rows) of the limits, good ones for the bound: the dual function is lowered step by step."""
        bounded = np.isfinite(self.limits)
        scale = np.where(bounded, np.abs(np.where(bounded, self.limits, 1.0)), 1.0)
        scale[scale == 0] = 1.0
        right = np.where(bounded, self.limits - self.fixed, 0.0)
        spread = sum(float(np.ptp(scores)) for scores in self.scores) or 1.0
        here, lowest, best = np.zeros(len(right)), np.inf, np.zeros(len(right))
        longest = max(len(scores) for scores in self.scores)
        scores, costs = np.full((len(self.scores), longest), -np.inf), np.zeros((len(right), len(self.scores), longest))
        for i, (own, dues) in enumerate(zip(self.scores, self.costs, strict=True)):
            scores[i, : len(own)], costs[:, i, : len(own)] = own, dues.T
        rows = np.arange(len(self.scores))
        for step in range(_STEPS):
            reduced = scores - np.tensordot(here, costs, 1)
            taken = reduced.argmax(1)
            used, value = costs[:, rows, taken].sum(1), float(reduced[rows, taken].sum() + here @ right)
            if value < lowest:
                lowest, best = value, here
            slope = np.where(bounded, (right - used) / scale, 0.0)
            size = float(np.abs(slope).sum())
            if size == 0:
                break
            here = np.maximum(here - spread / (1 + step) * slope / size / scale, 0.0)
        return np.unique(np.stack([best * factor for factor in (0.0, 0.5, 0.8, 1.0, 1.25, 2.0)]), axis=0)

    def solve(self, above: float, width: int) -> Found | None:
        """The best solution with a score above ``above``; notes in ``whole`` whether all partial sums were kept."""
        self.whole = True
        scores, used, bits = np.zeros(1), self.fixed[None, :], np.zeros(1, dtype=np.int64)
        trace: list[tuple[Ints, Ints]] = []
        for i in range(len(self.costs)):
            options = len(self.scores[i])
            before = np.repeat(np.arange(len(scores)), options)
            taken = np.tile(np.arange(options), len(scores))
            scores = scores[before] + self.scores[i][taken]
            used = used[before] + self.costs[i][taken]
            bits = bits[before] | self.marks[i][taken]
            for j in self.closing[i]:
                hit = (bits >> j & 1).astype(bool)
                used = used + np.where((hit == (self.when[j] == "any"))[:, None], self.shared[j], 0.0)
                bits = bits & ~np.int64(1 << j)
            bounds = self._bounds(scores, used, i + 1)
            kept = np.flatnonzero((used + self.least[i + 1] <= self.limits).all(1) & (bounds > above))
            kept = kept[self._undominated(scores[kept], used[kept], bits[kept])]
            if len(kept) > width:
                kept, self.whole = kept[self._thinned(bounds[kept], used[kept], bits[kept], width)], False
            if not len(kept):
                return None
            scores, used, bits = scores[kept], used[kept], bits[kept]
            trace.append((before[kept], taken[kept]))
        place = int(np.lexsort((used[:, 0], -scores))[0])
        found, score, costs = list[int](), float(scores[place]), used[place, : self.shown]
        for before, taken in reversed(trace):
            found.append(int(taken[place]))
            place = int(before[place])
        return Found(tuple(reversed(found)), score, costs, self.whole)

    def _bounds(self, scores: Floats, used: Floats, done: int) -> Floats:
        """Upper bound of the score of what each partial sum can become, with a margin for rounding."""
        room = np.where(np.isfinite(self.limits), self.limits - used, 0.0)
        bounds: Floats = (scores[:, None] + room @ self.multipliers.T + self.most[done]).min(1)
        return bounds + 1e-12 * (1 + np.abs(bounds))

    def _undominated(self, scores: Floats, used: Floats, bits: Ints) -> Ints:
        """Numbers of the partial sums that no other with the same open costs beats."""
        kept = [np.zeros(0, dtype=np.int64)]
        for value in np.unique(bits):
            members = np.flatnonzero(bits == value)
            order = members[np.lexsort((-scores[members], *used[members].T[::-1]))]
            if used.shape[1] == 1:
                highest = np.maximum.accumulate(scores[order])
                kept.append(order[np.concatenate(([True], scores[order][1:] > highest[:-1]))])
                continue
            equal = (used[order][1:] == used[order][:-1]).all(1)
            order = order[np.concatenate(([True], ~equal))]
            if not self.bounded_below and len(order) <= _PAIRS:
                cheaper = (used[order][:, None] <= used[order][None]).all(2)
                better = scores[order][:, None] >= scores[order][None]
                beaten = np.triu(cheaper & better, 1).any(0)  # a later one in the order never beats an earlier one
                order = order[~beaten]
            kept.append(order)
        return np.concatenate(kept)

    def _thinned(self, bounds: Floats, used: Floats, bits: Ints, width: int) -> Ints:
        """Numbers of the most promising partial sums of every range of the cost, and of the most promising of all."""
        cost = used[:, self.axis]
        span = float(np.ptp(cost)) or 1.0
        ranges = ((cost - cost.min()) / span * (width // 2)).astype(np.int64)
        order = np.lexsort((-bounds, ranges, bits))
        new = (ranges[order][1:] != ranges[order][:-1]) | (bits[order][1:] != bits[order][:-1])
        first = order[np.concatenate(([True], new))]
        return np.union1d(first, np.argsort(-bounds, kind="stable")[: width // 2])
