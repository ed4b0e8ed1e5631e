"""Costs fitted to whole networks, against costs that are known."""

import numpy as np
import pytest
import torch

from lightning_nas.latency.macs import count_space
from lightning_nas.latency.regression import Floats, count_matrix, fit_costs
from lightning_nas.spaces.chains.fbnet import FBNetSpace


@pytest.fixture(scope="module")
def macs(space: FBNetSpace) -> Floats:
    return np.array([entry.median for entry in count_space(space, "MACs").entries.values()])


def counts_of(space: FBNetSpace, networks: int, seed: int) -> Floats:
    generator = torch.Generator().manual_seed(seed)
    runs = [space.cost_keys(architecture) for architecture in space.different(networks, generator)]
    return count_matrix(runs, list(space.operations()))


def test_sums_of_known_costs_are_predicted_exactly(space: FBNetSpace, macs: Floats) -> None:
    counts, fresh = counts_of(space, 2 * len(macs), 0), counts_of(space, 100, 1)
    true = np.random.default_rng(0).uniform(0.1, 3.0, len(macs))  # nothing to do with multiply-adds
    fit = fit_costs(counts, counts @ true + 0.7, macs)
    assert fit.constant + fresh @ fit.costs == pytest.approx(fresh @ true + 0.7, rel=1e-3)
    assert fit.error < 1e-3
    assert (fit.costs >= 0).all()
    assert fit.constant >= 0


def test_it_is_least_squares_where_those_are_unique() -> None:
    draw = np.random.default_rng(1)
    counts = draw.integers(0, 4, (60, 5)).astype(float)
    measured = (counts @ [1.0, 2.0, 3.0, 4.0, 5.0] + 6.0) * draw.uniform(0.97, 1.03, 60)
    fit = fit_costs(counts, measured, np.full(5, 3.0))
    design = np.column_stack([np.ones(60), counts]) / measured[:, None]
    least, *_ = np.linalg.lstsq(design, np.ones(60), rcond=None)
    assert [fit.constant, *fit.costs] == pytest.approx(least.tolist(), rel=0.05)


def test_of_costs_with_equal_sums_those_like_multiply_adds_are_taken(space: FBNetSpace, macs: Floats) -> None:
    counts = counts_of(space, 40, 0)
    fit = fit_costs(counts, counts @ macs * 1e-6, macs)
    large = macs > 0.01 * macs.mean()
    assert fit.costs[large] == pytest.approx(macs[large] * 1e-6, rel=0.1)


def test_the_error_is_that_of_networks_never_seen(space: FBNetSpace, macs: Floats) -> None:
    draw, counts, fresh = np.random.default_rng(2), counts_of(space, 80, 0), counts_of(space, 80, 5)
    true = macs * draw.uniform(0.5e-6, 1.5e-6, len(macs)) + 0.02
    fit = fit_costs(counts, counts @ true * draw.uniform(0.9, 1.1, 80), macs)
    measured = fresh @ true * draw.uniform(0.9, 1.1, 80)
    found = np.abs(fit.constant + fresh @ fit.costs - measured) / measured
    assert fit.error == pytest.approx(found.mean(), rel=0.5)
    assert fit.worst >= fit.error
    assert fit.error > 0.03  # the noise is there: fits do not remember it
