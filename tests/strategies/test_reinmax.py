"""ReinMax: against the exact gradient of an expectation, and as the estimator of searches."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.errors import ConfigError
from lightning_nas.functional.relaxation import reinmax, straight_through
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.gdas import GDAS
from lightning_nas.strategies.differentiable.snas import SNAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.finding import FindingCase
from lightning_nas.testing.repeating import RepeatingCase
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyNodeSpace, toy_images
from lightning_nas.training.seeding import seeded

ONES: dict[str, Any] = {"temperature": 1.0, "last_temperature": 1.0, "estimator": "reinmax"}


def quadratic(x: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    matrix, vector = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((5, 5), (5,)))
    return x @ matrix @ x + vector @ x + 3


def cubic(x: Tensor) -> Tensor:
    return quadratic(x) + 2 * (x**3 @ torch.arange(5, dtype=torch.float64))


def gradients(f: Any, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exact gradient of E[f(D)], and the exact means of ReinMax and of the straight-through estimator."""
    theta = theta.requires_grad_()
    ones = torch.eye(5, dtype=torch.float64)
    exact = sum(p * f(one) for p, one in zip(theta.softmax(-1), ones, strict=True))
    [expected] = torch.autograd.grad(exact, theta)
    means = [torch.zeros_like(theta), torch.zeros_like(theta)]
    for p, one in zip(theta.detach().softmax(-1), ones, strict=True):
        for mean, gates in zip(means, (reinmax(theta, one), straight_through(one, theta.softmax(-1))), strict=True):
            assert torch.equal(gates.detach().round(decimals=12), one)
            mean += p * torch.autograd.grad(f(gates), theta)[0]
    return expected, *means


@pytest.mark.parametrize("seed", range(5))
def test_it_is_unbiased_for_quadratic_losses(seed: int) -> None:
    theta = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    exact, ours, first_order = gradients(quadratic, theta)
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)
    assert float((first_order - exact).abs().max()) > 0.01, "straight-through is not"
    exact, ours, _ = gradients(cubic, theta)
    assert float((ours - exact).norm()) > 1e-3, "of the second order, not the third"


def test_the_gradient_of_one_sample_is_the_papers_at_any_temperature() -> None:
    theta = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    towards, one = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0]).double()
    [ours] = torch.autograd.grad((reinmax(theta, one, 1.7) * towards).sum(), theta)

    def through(p: Tensor) -> Tensor:
        return towards @ (torch.diag(p) - torch.outer(p, p))

    middle = (one + (theta.detach() / 1.7).softmax(-1)) / 2
    torch.testing.assert_close(ours, 2 * through(middle) - through(theta.detach().softmax(-1)) / 2)


def test_far_logits_have_finite_gradients() -> None:
    theta = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    reinmax(theta, torch.tensor([[0.0, 0.0, 1.0]]))[0, 2].backward()
    assert theta.grad is not None
    assert bool(theta.grad.isfinite().all())


def make(kind: type, seed: int = 0, **options: Any) -> Any:
    given: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(SGD, lr=0.02, momentum=0.9),
        "arch_optimizer": partial(Adam, lr=0.1, betas=(0.5, 0.999)),
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return kind(ToyNodeSpace(), Classification(), seed=seed, **given | ONES | options)


class TestGDASByReinMax(RepeatingCase, FindingCase):
    @pytest.fixture
    def make(self) -> Any:
        return partial(make, GDAS)


@pytest.mark.parametrize(("kind", "more"), [(GDAS, {}), (SNAS, {"hard": True})])
def test_the_gradient_of_the_logits_is_that_of_all_gates(kind: type, more: dict[str, Any]) -> None:
    module = make(kind, theta_std=0.7, **more)
    module._trainer, module._fabric = SimpleNamespace(current_epoch=0, max_epochs=2), None
    images, labels = toy_images(32, seed=0)
    batch = images.float() / 255, labels
    gates = module.gates(module.generator("arch"))
    chosen = gates.values["layers"].detach().round()
    assert bool((chosen.sum(-1) == 1).all())
    free = chosen.clone().requires_grad_()
    [g] = torch.autograd.grad(module.held_out_loss(batch, Gates.soft({"layers": free})), free)
    assert int((g != 0).sum()) == 6, "the gates of options that are not chosen count"
    loss = module.held_out_loss(batch, gates)
    [ours] = torch.autograd.grad(loss, module.theta["layers"])
    theta = module.theta["layers"].detach().requires_grad_()
    [expected] = torch.autograd.grad((reinmax(theta, chosen) * g).sum(), theta)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    module.theta["layers"].requires_grad_(False)
    assert [len(row) for row in module.gates(module.generator("weights")).active["layers"]] == [1, 1]


def test_what_it_is_not_made_for_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"temperatures from 1 on, got 10 and 0\.1; legal"):
        GDAS(ToyNodeSpace(), estimator="reinmax")
    with pytest.raises(ConfigError, match=r"one-hot samples: set strategy\.hard=true"):
        SNAS(ToyNodeSpace(), **ONES)
