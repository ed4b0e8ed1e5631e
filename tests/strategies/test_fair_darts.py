from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from lightning_nas.strategies.differentiable.fair_darts import FairDarts, zero_one_loss
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import seeded


def make_fair_darts(seed: int = 0, **options: Any) -> FairDarts:
    defaults: dict[str, Any] = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "score_batches": 2,
        "zero_one": 0.1,  # on so small a problem the loss of the data is small too
    }
    with seeded(seed, "supernet"):
        return FairDarts(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestFairDarts(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., FairDarts]:
        return make_fair_darts


def test_gates_are_independent_and_none_is_no_option() -> None:
    module = make_fair_darts(theta_std=1.0)
    gates = module.gates(torch.Generator())
    torch.testing.assert_close(gates.values["layers"], 1 / (1 + (-module.theta["layers"]).exp()))
    space = ToySpace()
    space.gate_options = {"layers": ("none", "swap", "keep")}
    module = FairDarts(space, Classification(), weights_optimizer=None, arch_optimizer=None)  # type: ignore[arg-type]
    assert module.gates(torch.Generator()).active == {"layers": ((1, 2), (1, 2))}
    assert module.probabilities()["layers"][:, 0].tolist() == [0, 0]


def test_the_architecture_loss_has_the_zero_one_loss_in_it() -> None:
    module = make_fair_darts(theta_std=1.0)
    batch = torch.randn(8, 1, 4, 4), torch.arange(8) % 4
    plain = module.task_loss(batch, module.gates(torch.Generator()))
    sigma = module.theta["layers"].sigmoid()
    torch.testing.assert_close(module.arch_loss(batch), plain - 0.1 * ((sigma - 0.5) ** 2).mean())
    assert zero_one_loss(torch.full((5,), 0.5), "l1") == 0
