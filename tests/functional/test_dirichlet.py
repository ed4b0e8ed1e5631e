import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from lightning_nas.functional.dirichlet import concentration, kl_to_flat, sample_dirichlet

CONCENTRATIONS = torch.tensor([[0.3, 1.0, 2.5], [4.0, 0.7, 0.7]], dtype=torch.float64)


def test_concentrations_are_elu_plus_one_and_stay_positive() -> None:
    logits = torch.linspace(-5, 5, 101, dtype=torch.float64, requires_grad=True)
    ours, theirs = concentration(logits), F.elu(logits) + 1
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(c.sum(), logits)[0] for c in (ours, theirs)]
    torch.testing.assert_close(*slopes)
    far = torch.tensor([-80.0], requires_grad=True)
    [slope] = torch.autograd.grad(concentration(far).sum(), far)
    assert slope.item() == concentration(far).item() == pytest.approx(math.exp(-80))


def test_a_sample_and_its_gradient_are_those_of_torchs_distribution() -> None:
    torch.manual_seed(7)
    theirs = CONCENTRATIONS.clone().requires_grad_()
    expected = Dirichlet(theirs).rsample()
    ours = CONCENTRATIONS.clone().requires_grad_()
    drawn = sample_dirichlet(ours, torch.Generator().manual_seed(7))
    assert torch.equal(drawn, expected)
    towards = torch.randn(2, 3, dtype=torch.float64)
    gradients = [torch.autograd.grad((x * towards).sum(), c)[0] for x, c in ((drawn, ours), (expected, theirs))]
    torch.testing.assert_close(*gradients)


def moments(c: Tensor) -> Tensor:
    """E[z_0 z_1 + 3 z_2^2], by the exact second moments of a Dirichlet."""
    total = c.sum(-1)
    products = c[..., 0] * c[..., 1] + 3 * c[..., 2] * (c[..., 2] + 1)
    return products / (total * (total + 1))


def test_gradients_of_samples_are_on_average_those_of_the_exact_expectation() -> None:
    exact = CONCENTRATIONS.clone().requires_grad_()
    [expected] = torch.autograd.grad(moments(exact).sum(), exact)
    draws = 200_000
    many = CONCENTRATIONS.repeat(draws, 1, 1).requires_grad_()
    z = sample_dirichlet(many, torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.sum(-1), torch.ones(draws, 2, dtype=torch.float64))
    values = z[..., 0] * z[..., 1] + 3 * z[..., 2] ** 2
    [each] = torch.autograd.grad(values.sum(), many)
    error = each.std(0) / draws**0.5
    assert bool(((each.mean(0) - expected).abs() < 4.5 * error).all())
    assert float(error.max()) < 0.003 < float(expected.abs().min())  # so that another gradient would be seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_have_finite_samples_and_gradients(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-60.0, -60.0, -60.0], [-60.0, 60.0, 0.0], [1e4, 1e4, -1e3]], dtype=dtype)
    for seed in range(50):
        theta = logits.clone().requires_grad_()
        drawn = sample_dirichlet(concentration(theta), torch.Generator().manual_seed(seed))
        assert drawn.dtype == dtype
        drawn[:, 0].sum().backward()
        assert theta.grad is not None
        assert bool(drawn.isfinite().all() and theta.grad.isfinite().all())


def test_the_divergence_is_that_of_torchs_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    c = torch.rand(20, 7, generator=generator, dtype=torch.float64) * 4 + 0.01
    ours, theirs = c.clone().requires_grad_(), c.clone().requires_grad_()
    expected = kl_divergence(Dirichlet(theirs), Dirichlet(torch.ones_like(c)))
    torch.testing.assert_close(kl_to_flat(ours), expected)
    gradients = [torch.autograd.grad(f.sum(), x)[0] for f, x in ((kl_to_flat(ours), ours), (expected, theirs))]
    torch.testing.assert_close(*gradients)
