from typing import Any, Literal

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
        gradients = list(torch.autograd.grad(self.loss(0, weights, self.alpha), weights, create_graph=True))
        if step.clip is not None:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            gradients = [g * (step.clip / (norm + 1e-6)).clamp(max=1.0) for g in gradients]
        moved: list[Tensor] = []
        for w, g, b in zip(weights, gradients, step.buffers or [None] * len(weights), strict=True):
            decayed = g + step.weight_decay * w.detach()
            velocity = decayed if b is None else step.momentum * b + (1 - step.dampening) * decayed
            moved.append(w - step.lr * (decayed + step.momentum * velocity if step.nesterov else velocity))
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


SGDS: list[dict[str, Any]] = [
    {"lr": 20.0, "clip": 0.05},
    {"lr": 3.0, "momentum": 0.9, "weight_decay": 0.05, "clip": 0.1},
    {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.05, "clip": 1e3},
    {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.05, "clip": 0.1, "nesterov": True},
    {"lr": 0.3, "momentum": 0.9, "clip": 0.1, "dampening": 0.4},
]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("sgd", SGDS)
def test_a_clipped_step_is_differentiated_as_it_is_taken(sgd: dict[str, Any], fresh: bool) -> None:
    problem = Problem(5)
    step = VirtualStep(**sgd, buffers=[None] * 3 if fresh or not sgd.get("momentum") else problem.buffers)
    truth = problem.truth(step)
    torch.testing.assert_close(problem.ours(step, "exact")[1], truth, rtol=1e-9, atol=1e-12)
    _, difference = problem.ours(step, "difference", 1e-4)
    torch.testing.assert_close(difference, truth, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("sgd", SGDS)
def test_the_virtual_step_is_the_one_that_torch_takes(sgd: dict[str, Any], fresh: bool) -> None:
    problem = Problem(6)
    buffers = [None] * 3 if fresh or not sgd.get("momentum") else problem.buffers
    loss, _ = problem.ours(VirtualStep(**sgd, buffers=buffers), "difference")
    optimizer = torch.optim.SGD(problem.weights, **{name: value for name, value in sgd.items() if name != "clip"})
    for weight, buffer in zip(problem.weights, buffers, strict=True):
        optimizer.state[weight]["momentum_buffer"] = None if buffer is None else buffer.clone()
    problem.loss(0, list(problem.weights), problem.alpha).backward()
    torch.nn.utils.clip_grad_norm_(problem.weights, sgd["clip"])
    optimizer.step()
    torch.testing.assert_close(loss, problem.loss(1, list(problem.weights), problem.alpha).detach())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_difference_errs_by_its_truncation_alone(seed: int, clip: float | None) -> None:
    problem = Problem(seed)
    step = VirtualStep(0.3, 0.9, 0.05, problem.buffers, clip)
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
