"""Ranking statistics against scipy, torchmetrics and brute force."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torchmetrics.functional.regression import kendall_rank_corrcoef

from lightning_nas.errors import NumericalError
from lightning_nas.functional.ranking import (
    BELOW_CHANCE,
    BELOW_MACS,
    BETTER,
    TOO_FEW,
    bootstrap_interval,
    chance_level,
    kendall_tau,
    p_tau,
    precision_at_top,
    spearman,
    verdict,
)

Statistic = Callable[[Tensor, Tensor], Tensor]


def draw(seed: int, n: int, levels: int | None = None) -> tuple[Tensor, Tensor]:
    """Two correlated rows; with ``levels``, whole numbers of about that range, so that many are tied."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, generator=generator)
    scores = truth + torch.randn(n, generator=generator)
    if levels is None:
        return scores, truth
    return (scores * levels / 4).round(), (truth * levels / 4).round()


CASES = [(seed, n, levels) for seed in range(4) for n, levels in ((2, None), (10, None), (50, 4), (30, 2), (200, None))]


@pytest.mark.parametrize(("seed", "n", "levels"), CASES)
def test_kendall_tau_matches_scipy_and_torchmetrics(seed: int, n: int, levels: int | None) -> None:
    scores, truth = draw(seed, n, levels)
    ours = kendall_tau(scores, truth).item()
    assert ours == pytest.approx(scipy.stats.kendalltau(scores, truth, variant="b").statistic, abs=1e-9)
    assert ours == pytest.approx(kendall_rank_corrcoef(scores, truth).item(), abs=1e-6)


@pytest.mark.parametrize(("seed", "n", "levels"), CASES)
def test_spearman_matches_scipy(seed: int, n: int, levels: int | None) -> None:
    scores, truth = draw(seed, n, levels)
    assert spearman(scores, truth).item() == pytest.approx(scipy.stats.spearmanr(scores, truth).statistic, abs=1e-9)


@pytest.mark.parametrize("statistic", [kendall_tau, spearman, partial(precision_at_top, k=3)])
def test_leading_dimensions_are_independent_rows(statistic: Statistic) -> None:
    rows = [draw(seed, 12, 6) for seed in range(6)]
    scores, truth = (torch.stack(x).view(2, 3, 12) for x in zip(*rows, strict=True))
    alone = torch.stack([statistic(s, t) for s, t in rows]).view(2, 3)
    assert statistic(scores, truth).equal(alone)


@pytest.mark.parametrize("statistic", [kendall_tau, spearman])
def test_constant_input_and_single_architecture_have_no_rank_correlation(statistic: Statistic) -> None:
    assert statistic(torch.ones(5), torch.arange(5.0)).isnan()
    assert statistic(torch.arange(5.0), torch.ones(5)).isnan()
    assert statistic(torch.ones(1), torch.ones(1)).isnan()


@pytest.mark.parametrize("statistic", [kendall_tau, spearman, partial(precision_at_top, k=2)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_input_that_is_not_finite_is_an_error_and_never_a_number(statistic: Statistic, value: float) -> None:
    bad = torch.tensor([1.0, value, 3.0])
    with pytest.raises(NumericalError, match=f"the scores to rank hold {value}"):
        statistic(bad, torch.arange(3.0))
    with pytest.raises(NumericalError, match=f"the truth to rank hold {value}"):
        statistic(torch.arange(3.0), bad)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape .* got \(3,\), \(1,\)"):
        kendall_tau(torch.arange(3.0), torch.ones(1))


@pytest.mark.parametrize(("scores", "truth"), [([3, 1, 2, 2, 2, 1], [1, 1, 1, 0, 2, 2]), ([5, 4, 3, 2, 1, 0],) * 2])
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_precision_at_top_is_the_mean_over_all_tie_breaks(scores: list[int], truth: list[int], k: int) -> None:
    share = np.zeros((2, 6))
    for row, values in enumerate((scores, truth)):
        for order in itertools.permutations(range(6)):  # a stable sort breaks the ties by the order it starts from
            top = sorted(order, key=lambda i, values=values: -values[i])[:k]
            share[row, top] += 1 / math.factorial(6)
    expected = (share[0] * share[1]).sum() / k  # the ties of the two are broken independently
    assert precision_at_top(torch.tensor(scores), torch.tensor(truth), k).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [0, 5])
def test_precision_at_top_names_the_legal_k(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is 1 to the number of architectures, 4; got {k}"):
        precision_at_top(torch.arange(4.0), torch.arange(4.0), k)


def test_p_tau_is_the_share_of_pairs_ordered_alike() -> None:
    scores, truth = draw(0, 15)
    pairs = list(itertools.combinations(range(15), 2))
    alike = sum(bool((scores[i] < scores[j]) == (truth[i] < truth[j])) for i, j in pairs)
    assert p_tau(kendall_tau(scores, truth)).item() == pytest.approx(alike / len(pairs), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_level_of_chance_counts_orders(seed: int) -> None:
    scores, truth = draw(seed, 6)
    tau = kendall_tau(scores, truth)
    orders = torch.stack([scores[list(order)] for order in itertools.permutations(range(6))])
    taus = kendall_tau(orders, truth.expand(len(orders), -1)) * (1 if tau >= 0 else -1)
    assert chance_level(scores, truth) == pytest.approx((taus >= tau.abs() - 1e-9).double().mean().item())


def test_the_level_of_chance_of_few_or_equal_scores_is_not_defined() -> None:
    assert math.isnan(chance_level(torch.ones(1), torch.ones(1)))
    assert math.isnan(chance_level(torch.ones(4), torch.arange(4.0)))


@pytest.mark.parametrize(
    ("tau", "interval", "chance", "by_macs", "said"),
    [
        (0.733, (0.11, 1.0), 0.028, 0.0, TOO_FEW),
        (0.6, (-0.1, 0.9), 0.01, 0.2, TOO_FEW),
        (0.6, (0.3, 0.8), 1e-4, 0.5, TOO_FEW),
        (0.6, (0.3, 0.8), 1e-4, 0.2, BETTER),
        (0.6, (0.3, 0.8), 1e-4, math.nan, BETTER),
        (0.6, (0.3, 0.8), 1e-4, 0.9, BELOW_MACS),
        (-0.6, (-0.8, -0.3), 1e-4, 0.2, BELOW_CHANCE),
        (1.0, (1.0, 1.0), 1 / 6, 0.0, TOO_FEW),  # three in perfect order
        (math.nan, (math.nan, math.nan), math.nan, 0.2, TOO_FEW),
    ],
)
def test_what_a_rank_check_can_say(
    tau: float, interval: tuple[float, float], chance: float, by_macs: float, said: str
) -> None:
    assert verdict(tau, interval, chance, by_macs) == said


def test_bootstrap_interval_matches_scipy() -> None:
    scores, truth = draw(3, 30)
    ours = bootstrap_interval(kendall_tau, scores, truth, torch.Generator().manual_seed(0), resamples=4000)
    theirs = scipy.stats.bootstrap(
        (scores.numpy(), truth.numpy()),
        lambda s, t: scipy.stats.kendalltau(s, t).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        random_state=np.random.default_rng(0),  # "rng" came with SciPy 1.15
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.04)
    narrow = bootstrap_interval(kendall_tau, scores, truth, torch.Generator().manual_seed(0), level=0.5)
    assert ours[0] < narrow[0] < narrow[1] < ours[1]


def test_bootstrap_interval_drops_degenerate_resamples() -> None:
    two = torch.tensor([1.0, 2.0])  # half of the resamples hold one architecture twice
    assert bootstrap_interval(kendall_tau, two, two, torch.Generator().manual_seed(0)) == (1.0, 1.0)
    for n in (0, 1, 4):
        interval = bootstrap_interval(kendall_tau, torch.ones(n), torch.arange(n), torch.Generator().manual_seed(0))
        assert all(math.isnan(end) for end in interval)


def test_bootstrap_interval_depends_on_its_generator_alone() -> None:
    scores, truth = draw(1, 20)

    def interval(seed: int) -> tuple[float, float]:
        torch.rand(1)  # the global generator moves on
        return bootstrap_interval(spearman, scores, truth, torch.Generator().manual_seed(seed), resamples=50)

    assert interval(0) == interval(0) != interval(1)


def test_bootstrap_interval_in_parts_equals_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = draw(1, 20)
    whole = bootstrap_interval(spearman, scores, truth, torch.Generator().manual_seed(0))
    monkeypatch.setattr("lightning_nas.functional.ranking._CHUNK", 7 * 400)
    assert bootstrap_interval(spearman, scores, truth, torch.Generator().manual_seed(0)) == whole
