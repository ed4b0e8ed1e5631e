from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from lightning_nas.functional.hypergradient import VirtualStep, unrolled_gradient


class Problem:
    """A small mixed network in float64, with losses of two batches."""

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.weights = [nn.Parameter(torch.randn(*s, generator=draw).double() / 2) for s in ((5, 4), (5, 4), (5, 3))]
        self.alpha = nn.Parameter(torch.randn(2, generator=draw).double())
        self.buffers = [torch.randn(w.shape, generator=draw).double() / 10 for w in self.weights]
        self.batches = [
            (torch.randn(8, 4, generator=draw).double(), torch.randint(3, (8,), generator=draw)) for _ in range(2)
        ]

    def loss(self, part: int, weights: list[Tensor], alpha: Tensor) -> Tensor:
        x, y = self.batches[part]
        gates = alpha.softmax(0)
        hidden = gates[0] * (x @ weights[0].t()).tanh() + gates[1] * nn.functional.softplus(x @ weights[1].t())
        return nn.functional.cross_entropy(hidden @ weights[2], y)

    def truth(self, step: VirtualStep) -> Tensor:
        """By autograd, through a step that is really taken in the graph."""
        weights: list[Tensor] = list(self.weights)
        gradients = torch.autograd.grad(self.loss(0, weights, self.alpha), weights, create_graph=True)
        buffers = step.buffers or [None] * len(weights)
        moved = [
            w - step.lr * (g + step.weight_decay * w.detach() + (0 if b is None else step.momentum * b))
            for w, g, b in zip(weights, gradients, buffers, strict=True)
        ]
        [gradient] = torch.autograd.grad(self.loss(1, moved, self.alpha), [self.alpha])
        return gradient

    def ours(
        self, step: VirtualStep, mixed: Literal["difference", "exact"], epsilon: float = 0.01
    ) -> tuple[Tensor, Tensor]:
        losses = [lambda part=part: self.loss(part, list(self.weights), self.alpha) for part in (0, 1)]
        loss, [gradient] = unrolled_gradient(*losses, self.weights, [self.alpha], step, mixed=mixed, epsilon=epsilon)
        return loss, gradient


STEPS = [(0.3, 0.0, 0.0), (0.3, 0.9, 0.0), (0.3, 0.9, 0.05)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("lr", "momentum", "weight_decay"), STEPS)
def test_exact_equals_autograd_through_a_step_that_is_really_taken(
    seed: int, lr: float, momentum: float, weight_decay: float
) -> None:
    problem = Problem(seed)
    step = VirtualStep(lr, momentum, weight_decay, problem.buffers)
    truth = problem.truth(step)
    _, gradient = problem.ours(step, "exact")
    torch.testing.assert_close(gradient, truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_difference_errs_by_its_truncation_alone(seed: int) -> None:
    problem = Problem(seed)
    step = VirtualStep(0.3, 0.9, 0.05, problem.buffers)
    truth = problem.truth(step)
    errors = [float((problem.ours(step, "difference", eps)[1] - truth).norm()) for eps in (0.04, 0.02, 0.01)]
    assert errors[-1] < 1e-3 * float(truth.norm())
    # a central difference: half the epsilon, a quarter of the error
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(("mixed", "last"), [("difference", [(False, True)] * 2), ("exact", [(True, True)])])
def test_each_pass_is_asked_for_the_gradients_that_are_used(
    mixed: Literal["difference", "exact"], last: list[tuple[bool, bool]]
) -> None:
    problem, asked = Problem(4), []
    loss = problem.loss

    def watched(part: int, weights: list[Tensor], alpha: Tensor) -> Tensor:
        asked.append((weights[0].requires_grad, alpha.requires_grad))
        return loss(part, weights, alpha)

    problem.loss = watched  # type: ignore[method-assign]
    problem.ours(VirtualStep(0.1), mixed)
    assert asked == [(True, False), (True, True), *last]
    assert all(leaf.requires_grad for leaf in (*problem.weights, problem.alpha))


def test_without_a_step_it_is_the_first_order_gradient() -> None:
    problem = Problem(3)
    _, gradient = problem.ours(VirtualStep(lr=0.0), "difference")
    loss = problem.loss(1, list(problem.weights), problem.alpha)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, [problem.alpha])[0])


@pytest.mark.parametrize("mixed", ["difference", "exact"])
def test_weights_have_the_same_bits_after_the_virtual_step(
    mixed: Literal["difference", "exact"],
) -> None:
    problem = Problem(4)
    before = [w.detach().clone() for w in problem.weights]
    step = VirtualStep(0.3, 0.9, 0.05, problem.buffers)
    loss, _ = problem.ours(step, mixed)
    assert all(torch.equal(a, b) for a, b in zip(before, problem.weights, strict=True))
    optimizer = torch.optim.SGD(problem.weights, lr=0.3, momentum=0.9, weight_decay=0.05)
    for weight, buffer in zip(problem.weights, problem.buffers, strict=True):
        optimizer.state[weight]["momentum_buffer"] = buffer.clone()
    problem.loss(0, list(problem.weights), problem.alpha).backward()
    optimizer.step()
    torch.testing.assert_close(loss, problem.loss(1, list(problem.weights), problem.alpha).detach())
