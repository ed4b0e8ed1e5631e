"""Projection: brute force on small problems, an integer program of SciPy on large ones."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from lightning_nas.errors import InputError
from lightning_nas.functional.projection import Floats, Part, Shared, least, project

RNG = np.random.default_rng


def random_problem(seed: int) -> tuple[list[Part], Floats, Floats, list[Shared], tuple[int, float] | None]:
    """Parts, limits, fixed costs, shared costs and a floor; whole numbers, of which many are equal, or not."""
    rng = RNG(seed)
    kinds, together = int(rng.integers(1, 4)), int(rng.integers(0, 4))
    parts = []
    for options in rng.integers(1, 5, rng.integers(1, 6)).tolist():
        costs = rng.random((options, kinds)) * 20
        marks = rng.integers(0, 2**together, options)
        parts.append(Part(np.log(rng.dirichlet(np.ones(options))), np.floor(costs) if seed % 2 else costs, marks))
    shared = [Shared(np.floor(rng.random(kinds) * 9), "any" if rng.random() < 0.5 else "none") for _ in range(together)]
    limits, fixed = rng.uniform(5, 60, kinds), np.floor(rng.random(kinds) * 5)
    if seed % 5 == 0:
        limits = np.floor(limits)
    number = int(rng.integers(kinds))
    floor = (number, float(limits[number]) * rng.uniform(0.7, 1)) if rng.random() < 0.5 else None
    return parts, limits, fixed, shared, floor


def all_of(parts: Sequence[Part], fixed: Floats, shared: Sequence[Shared]) -> list[tuple[float, Floats]]:
    """Score and costs of every selection."""
    found = []
    for taken in itertools.product(*(range(len(part.scores)) for part in parts)):
        score, costs, marks = 0.0, fixed, 0
        for part, number in zip(parts, taken, strict=True):
            score, costs, marks = score + part.scores[number], costs + part.costs[number], marks | part.marks[number]
        for j, one in enumerate(shared):
            costs = costs + one.costs * (bool(marks >> j & 1) == (one.when == "any"))
        found.append((float(score), costs))
    return found


def test_it_finds_what_brute_force_finds() -> None:
    solved = 0
    for seed in range(200):
        parts, limits, fixed, shared, floor = random_problem(seed)
        kept = [
            score
            for score, costs in all_of(parts, fixed, shared)
            if (costs <= limits).all() and (floor is None or costs[floor[0]] >= floor[1])
        ]
        found = project(parts, limits.tolist(), fixed=fixed.tolist(), shared=shared, floor=floor)
        if found is None:
            assert not kept
            continue
        solved += 1
        assert found.score == pytest.approx(max(kept), abs=1e-9)
        assert found.exact
        assert (found.costs <= limits).all()
    assert 40 < solved < 160


def test_the_least_cost_is_that_of_brute_force() -> None:
    for seed in range(60):
        parts, _, fixed, shared, _ = random_problem(seed)
        wanted = min(costs[-1] for _, costs in all_of(parts, fixed, shared))
        found = least(parts, len(fixed) - 1, fixed=fixed.tolist(), shared=shared)
        assert found.costs[0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("kinds", "floor"), [(1, False), (1, True), (2, False), (2, True)])
def test_large_problems_agree_with_an_integer_program(kinds: int, floor: bool) -> None:
    rng, layers, options = RNG(7), 20, 7
    parts = [
        Part(np.log(rng.dirichlet(np.ones(options))), rng.random((options, kinds)), np.zeros(options, dtype=np.int64))
        for _ in range(layers)
    ]
    limits = [0.4 * layers] * kinds
    found = project(parts, limits, floor=(0, 0.99 * limits[0]) if floor else None)
    costs, one_each = np.concatenate([part.costs for part in parts]).T, np.kron(np.eye(layers), np.ones(options))
    lowest = [0.99 * limits[0] if floor and k == 0 else -np.inf for k in range(kinds)]
    scores = np.concatenate([part.scores for part in parts])
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(costs, lowest, limits)]
    known = milp(-scores, constraints=constraints, integrality=1, bounds=Bounds(0, 1), options={"mip_rel_gap": 0.0})
    assert found is not None
    assert found.exact
    assert found.score == pytest.approx(-known.fun, abs=1e-6)
    assert all(cost <= limit for cost, limit in zip(found.costs, limits, strict=True))


def test_equal_scores_everywhere_are_no_burden() -> None:
    layer = Part(np.zeros(9), np.arange(9.0)[:, None] * 1.37, np.zeros(9, dtype=np.int64))
    found = project([layer] * 22, [100.0], floor=(0, 97.0))
    assert found is not None
    assert 97 <= found.costs[0] <= 100


def test_too_many_shared_costs_are_refused() -> None:
    layer = Part(np.zeros(1), np.zeros((1, 1)), np.zeros(1, dtype=np.int64))
    with pytest.raises(InputError, match="at most 62"):
        project([layer], [1.0], shared=[Shared(np.ones(1), "any")] * 63)
