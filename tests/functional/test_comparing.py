"""Statistics of comparisons against SciPy, exhaustive enumeration, and numbers printed in papers."""

import itertools
import math

import pytest
import torch
from scipy import stats

from lightning_nas.errors import NumericalError
from lightning_nas.functional.comparing import (
    cliques,
    critical_difference,
    friedman,
    held_at,
    holm,
    hypervolume,
    improvement_over_tasks,
    incumbents,
    interquartile_mean,
    mean_over_tasks,
    optimality_gap,
    pooled,
    probability_of_improvement,
    signed_rank_p,
    stratified_interval,
    time_to,
)

# ranks of four methods on 14 tasks with the mean ranks of Demsar (2006), section 3.2.3
DEMSAR = torch.tensor(
    [
        *([4, 3, 1.5, 1.5], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1]),
        *([2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5] * 4, [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2.5, 2.5], [3, 1, 4, 2]),
    ],
    dtype=torch.float64,
)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 10, 101])
def test_interquartile_mean_matches_scipy(count: int) -> None:
    values = torch.randn(7, count, generator=_rng(count), dtype=torch.float64)
    expected = stats.trim_mean(values.numpy(), 0.25, axis=-1)
    assert interquartile_mean(values).numpy() == pytest.approx(expected, abs=1e-12)


def test_probability_of_improvement_is_mann_whitney_u_over_all_pairs() -> None:
    first, second = (torch.randint(5, (n,), generator=_rng(n)).double() for n in (9, 12))
    u = stats.mannwhitneyu(first.numpy(), second.numpy()).statistic
    assert probability_of_improvement(first, second).item() == pytest.approx(u / (9 * 12), abs=1e-12)
    assert probability_of_improvement(first, first).item() == 0.5


def _printed_by_rliable(shift: int) -> list[torch.Tensor]:
    """Figures of ten runs on each of five tasks."""
    run, task = torch.arange(10).double(), torch.arange(5).double()
    return [((7 * run + 3 * j + shift) % 11) / 10 * (1 + j / 5) + (0.1 if shift else 0.0) for j in task]


# what rliable 1.2.0 (arXiv:2108.13264, the authors' code) gives for these figures, with 50,000 resamples
RLIABLE = {
    0: [(0.664615384615, 0.4992, 0.8254), (0.6928, 0.5680, 0.8176), (0.3932, 0.2976, 0.4908)],
    4: [(0.764615384615, 0.6046, 0.9246), (0.7940, 0.6708, 0.9172), (0.3184, 0.2340, 0.4064)],
}


@pytest.mark.parametrize("shift", RLIABLE)
def test_figures_and_intervals_are_those_of_rliable(shift: int) -> None:
    runs = _printed_by_rliable(shift)
    statistics = [pooled(interquartile_mean), mean_over_tasks, pooled(lambda figures: optimality_gap(figures, 1.0))]
    for statistic, (figure, low, high) in zip(statistics, RLIABLE[shift], strict=True):
        assert statistic(runs).item() == pytest.approx(figure, abs=1e-11)
        assert stratified_interval(statistic, runs, _rng(), 20_000) == pytest.approx((low, high), abs=6e-3)


def test_the_probability_of_improvement_is_that_of_rliable() -> None:
    first, second = _printed_by_rliable(0), _printed_by_rliable(4)
    assert improvement_over_tasks([*first, *second]).item() == pytest.approx(0.442, abs=1e-12)
    assert improvement_over_tasks([*second, *first]).item() == pytest.approx(0.558, abs=1e-12)
    interval = stratified_interval(improvement_over_tasks, [*second, *first], _rng(), 20_000)
    assert interval == pytest.approx((0.442, 0.671), abs=6e-3)


def test_improvement_is_the_mean_over_tasks() -> None:
    better, worse, same = torch.ones(3), torch.zeros(4), torch.zeros(2)
    assert improvement_over_tasks([better, same, worse, same]).item() == 0.75


def test_interval_holds_the_share_of_all_resamples_it_says() -> None:
    """Two tasks of three runs have 27 x 27 equally likely resamples."""
    strata = [torch.tensor([1.0, 2.0, 4.0]), torch.tensor([10.0, 11.0, 15.0])]
    one, other = ([torch.tensor(drawn) for drawn in itertools.product(runs.tolist(), repeat=3)] for runs in strata)
    means = torch.stack([mean_over_tasks([a, b]) for a in one for b in other])
    low, high = stratified_interval(mean_over_tasks, strata, _rng(), resamples=20_000, level=0.8)
    assert low == pytest.approx(means.quantile(0.1).item(), abs=0.1)
    assert high == pytest.approx(means.quantile(0.9).item(), abs=0.1)


def test_resamples_stay_within_their_stratum() -> None:
    constant = [torch.full((3,), 1.0), torch.full((5,), 9.0)]
    assert stratified_interval(mean_over_tasks, constant, _rng()) == (5.0, 5.0)
    assert stratified_interval(pooled(lambda x: x.mean(-1)), constant, _rng()) == (6.0, 6.0)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = _rng(3), 0
    for _ in range(200):
        runs = torch.randn(30, generator=rng)
        low, high = stratified_interval(mean_over_tasks, [runs], rng, resamples=300)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_is_that_of_its_generator_and_refuses_what_it_cannot_use() -> None:
    runs = [torch.randn(10, generator=_rng())]
    assert stratified_interval(mean_over_tasks, runs, _rng(1)) == stratified_interval(mean_over_tasks, runs, _rng(1))
    with pytest.raises(NumericalError, match="nan"):
        stratified_interval(mean_over_tasks, [torch.tensor([1.0, math.nan])], _rng())
    with pytest.raises(ValueError, match="strata with runs"):
        stratified_interval(mean_over_tasks, [torch.tensor([])], _rng())


def test_signed_rank_enumerates_all_signs() -> None:
    """The p value is the share of the 2^8 sign patterns at least as far from the middle."""
    differences = torch.tensor([3.0, -1.0, 4.0, 2.5, 5.0, -0.5, 6.0, 7.0])
    ranks = differences.abs().argsort().argsort() + 1
    middle, observed = ranks.sum() / 2, ranks[differences > 0].sum()
    sums = torch.tensor([(torch.tensor(signs) * ranks).sum() for signs in itertools.product((0, 1), repeat=8)])
    expected = ((sums - middle).abs() >= (observed - middle).abs()).double().mean().item()
    assert signed_rank_p(differences) == pytest.approx(expected, abs=1e-12)
    assert signed_rank_p(torch.zeros(5)) == 1.0


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """A hypothesis is rejected if Bonferroni rejects every intersection that it is part of."""
    p_values = [0.011, 0.04, 0.012, 0.6, 0.03]
    subsets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
    closed = [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s) for i in range(5)]
    assert holm(p_values) == pytest.approx(closed, abs=1e-12)
    assert holm([]) == []


def test_friedman_and_nemenyi_give_the_numbers_of_demsar() -> None:
    """The paper leaves ties uncorrected: here 5 pairs and a tie of four, 90 of 840."""
    found = friedman(-DEMSAR)
    assert found.ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    uncorrected = found.chi2 * (1 - 90 / 840)
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.005)
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=5e-4)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(2.291 * math.sqrt(4 * 5 / (6 * 14)), abs=5e-4)


def test_friedman_matches_scipy_with_and_without_ties() -> None:
    for figures in (DEMSAR, torch.randn(6, 5, generator=_rng(4), dtype=torch.float64)):
        expected = stats.friedmanchisquare(*figures.T.numpy())
        found = friedman(figures)
        assert found.chi2 == pytest.approx(expected.statistic, rel=1e-9)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.f_p < 1


def test_friedman_says_nothing_of_equal_figures_and_much_of_agreement() -> None:
    assert friedman(torch.ones(3, 4)).p == 1.0
    agreed = friedman(torch.arange(4.0).expand(5, 4))
    assert agreed.ranks == (4.0, 3.0, 2.0, 1.0)
    assert math.isinf(agreed.f)
    assert agreed.f_p == 0
    with pytest.raises(ValueError, match="two tasks"):
        friedman(torch.ones(1, 4))


def test_no_clique_is_part_of_another() -> None:
    assert cliques([1.0, 1.1, 1.2], 0.5) == [(0, 2)]
    assert cliques([1.0, 2.0, 3.0], 0.5) == []
    assert cliques([1.0, 1.4, 1.8, 2.2], 0.9) == [(0, 2), (1, 3)]


def test_curves_match_a_loop() -> None:
    rewards = torch.randint(6, (40,), generator=_rng(5)).double()
    places = incumbents(rewards)
    for i in range(40):
        assert places[i] == rewards[: i + 1].argmax()
    times = torch.rand(40, generator=_rng(6)).cumsum(0)
    values = rewards[places]
    moments = torch.linspace(0, 25, 30)
    for moment, held in zip(moments, held_at(times, values, moments), strict=True):
        before = [value for time, value in zip(times, values, strict=True) if time <= moment]
        assert held == before[-1] if before else held.isnan()
    assert time_to(times, values, wanted=5.0) == times[rewards.argmax()]
    assert time_to(times, values, wanted=7.0) is None


def test_hypervolume_matches_counting_cells() -> None:
    """Of a grid's unit cells those below a point are counted."""
    for seed in range(20):
        scores, costs = torch.randint(12, (2, 6), generator=_rng(seed))
        cells = sum(
            any(score > i and cost <= j for score, cost in zip(scores, costs, strict=True))
            for i in range(2, 12)
            for j in range(9)
        )
        assert hypervolume(scores, costs, reference=(2.0, 9.0)) == cells
