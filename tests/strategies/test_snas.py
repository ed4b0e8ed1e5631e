from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.snas import SNAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToyNodeSpace, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_snas(seed: int = 0, space: ToySpace | None = None, **options: Any) -> SNAS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return SNAS(space or ToySpace(), Classification(), seed=seed, **defaults | options)


class TestSnas(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., SNAS]:
        return make_snas


class TestHardSnas(StrategyCase):
    """On operations that are added: in a chain a straight-through gate scales what the next batch norm scales back."""

    search_epochs = 10

    @pytest.fixture
    def make(self) -> Callable[..., SNAS]:
        slower = partial(torch.optim.SGD, lr=0.02, momentum=0.9)  # at 0.1 one path at a time diverges
        return partial(make_snas, space=ToyNodeSpace(), hard=True, weights_optimizer=slower)


def test_weights_and_theta_step_on_the_gradients_of_one_loss(tmp_path: Path) -> None:
    module, calls = make_snas(), list[str]()
    for name in ("weights_loss", "arch_loss"):
        original = getattr(module, name)
        setattr(module, name, lambda batch, name=name, original=original: (calls.append(name), original(batch))[1])
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    assert set(calls) == {"weights_loss"}
    assert module.weights_steps == module.arch_steps == len(calls)


def test_the_joint_step_is_that_of_one_optimiser_over_both(tmp_path: Path) -> None:
    sgd = partial(torch.optim.SGD, lr=0.05)
    module, twin = (make_snas(weights_optimizer=sgd, arch_optimizer=sgd) for _ in range(2))
    seen: list[Any] = []
    original = module.weights_loss

    def spy(batch: Any) -> torch.Tensor:
        seen.append((module.position, module.tau, batch))
        return original(batch)

    module.weights_loss = spy  # type: ignore[method-assign]
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05)
    twin.train()
    for position, tau, (x, y) in seen:
        twin.position = position
        noise = -torch.empty(2, 3).exponential_(generator=twin.generator("weights")).log()
        gates = ((twin.theta["layers"] + noise) / tau).softmax(-1)
        loss = torch.nn.functional.cross_entropy(twin.supernet(x, Gates.soft({"layers": gates})), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for ours, truth in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-6)
