"""Updates of a controller, averaged over all architectures, without a trainer."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.multi_trial.policy import PolicySearch
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Trial

SETTINGS: dict[str, Any] = {
    "controller": partial(Controller, hidden=16),
    "optimizer": partial(torch.optim.Adam, lr=0.03),
    "baseline_decay": 0.9,
    "in_flight": 1,
}
UNEQUAL = partial(Controller, hidden=4, init=1.5)  # weights so large that no two architectures are equally likely


def every(space: SearchSpace) -> list[Architecture]:
    """All architectures of a space whose decisions are independent."""
    names = [decision.name for decision in space.decisions]
    chosen = product(*(decision.options for decision in space.decisions))
    return [Architecture.of(space.name, dict(zip(names, options, strict=True))) for options in chosen]


def accuracies(count: int) -> Tensor:
    """Random ones."""
    return torch.rand(count, generator=generator(1), dtype=torch.float64)


def chances(module: PolicySearch) -> Tensor:
    """Of all architectures, differentiable."""
    return module.controller.replay(every(module.space)).log_probabilities.exp()


def average_step(make: Callable[[], PolicySearch], tell: Callable[[PolicySearch, int], Trial]) -> list[Tensor]:
    """How far one step of SGD with rate 1 moves the controller, expected over the architectures.

    Args:
        make: the same search each time, with one child a minibatch.
        tell: the trial of architecture i, and, in the search, what was before.
    """
    total: list[Tensor] = []
    for i, chance in enumerate(chances(make()).tolist()):
        module = make()
        trial = tell(module, i)
        optimizer = torch.optim.SGD(module.controller.parameters(), lr=1.0)
        module.optimizers = lambda optimizer=optimizer: optimizer  # type: ignore[method-assign]
        before = [p.detach().clone() for p in module.controller.parameters()]
        module.history.append((trial, module.reward(trial)))
        module.learn(*module.history[-1])
        steps = [p.detach() - old for p, old in zip(module.controller.parameters(), before, strict=True)]
        total = [sum_ + chance * step for sum_, step in zip(total or [0.0] * len(steps), steps, strict=True)]
    return total


def check_gradient(found: Sequence[Tensor], value: Tensor, module: PolicySearch) -> None:
    """Whether steps are the gradient of a value of the controller."""
    exact = torch.autograd.grad(value, list(module.controller.parameters()), allow_unused=True, materialize_grads=True)
    assert max(gradient.abs().max().item() for gradient in exact) > 0.01
    for step, gradient in zip(found, exact, strict=True):
        torch.testing.assert_close(step, gradient, rtol=1e-5, atol=1e-8)
