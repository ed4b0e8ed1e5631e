"""Acquisition functions against SciPy."""

import pytest
import torch
from scipy import stats

from lightning_nas.functional.acquisition import expected_improvement, independent_thompson, upper_confidence_bound
from lightning_nas.training.seeding import generator

PREDICTIONS = torch.randn(5, 4, generator=generator(0, "predictions"), dtype=torch.float64)


def test_thompson_draws_come_from_the_normal_of_each_candidate() -> None:
    rng = generator(1, "draws")
    draws = torch.stack([independent_thompson(PREDICTIONS, rng) for _ in range(2000)])
    mean, spread = PREDICTIONS.numpy().mean(0), PREDICTIONS.numpy().std(0, ddof=1)
    for place in range(4):
        assert stats.kstest(draws[:, place].numpy(), stats.norm(mean[place], spread[place]).cdf).pvalue > 0.01
        assert stats.kstest(draws[:, place].numpy(), stats.norm(mean[place], 1.2 * spread[place]).cdf).pvalue < 0.01
    correlations = torch.corrcoef(draws.T) - torch.eye(4)
    assert correlations.abs().max() < 0.1, "the candidates are not independent"


@pytest.mark.parametrize("best", [-1.0, 0.0, 0.7])
def test_expected_improvement_is_the_integral(best: float) -> None:
    mean, spread = PREDICTIONS.numpy().mean(0), PREDICTIONS.numpy().std(0, ddof=1)
    expected = [
        stats.norm(m, s).expect(lambda reward: max(0.0, reward - best), lb=best)
        for m, s in zip(mean, spread, strict=True)
    ]
    assert expected_improvement(PREDICTIONS, best).tolist() == pytest.approx(expected, abs=1e-6)


def test_upper_confidence_bound_is_that_of_numpy() -> None:
    expected = PREDICTIONS.numpy().mean(0) + 0.5 * PREDICTIONS.numpy().std(0, ddof=1)
    assert upper_confidence_bound(PREDICTIONS).tolist() == pytest.approx(expected.tolist())


def test_a_single_member_has_no_uncertainty() -> None:
    one = PREDICTIONS[:1]
    assert independent_thompson(one, generator(0)).tolist() == one[0].tolist()
    assert upper_confidence_bound(one).tolist() == one[0].tolist()
    assert expected_improvement(one, 0.0).tolist() == one[0].clamp(min=0).tolist()
