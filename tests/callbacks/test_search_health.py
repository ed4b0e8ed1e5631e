import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from scipy.stats import entropy as scipy_entropy
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks import search_health
from lightning_nas.callbacks.search_health import SearchHealth, arch_eigenvalue, skip_dominance
from lightning_nas.errors import ConfigError
from lightning_nas.ops.fused import fused
from lightning_nas.spaces.fbnet import FBNetSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.darts import Darts
from lightning_nas.strategies.differentiable.gdas import Gdas
from lightning_nas.tasks.base import Batch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.callbacks import CallbackCase, toy_search
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import digest, fingerprint, fit, one_thread
from lightning_nas.training.seeding import seeded
from lightning_nas.training.table import Table

OPTIMISERS: dict[str, Any] = {
    "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "arch_optimizer": partial(torch.optim.Adam, lr=0.1),
}


class TestSearchHealth(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return SearchHealth


class TestEarlyStopThatDoesNotFire(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return lambda: SearchHealth(early_stop=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def darts(make: type[SearchModule] = Darts, space: Any = None, **options: Any) -> SearchModule:
    with seeded(0, "supernet"):
        return make(space or ToySpace(), Classification(), None, theta_std=0.5, score_batches=2, **OPTIMISERS | options)


def batch(size: int = 32, shape: tuple[int, ...] = (1, 4, 4)) -> Batch:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(size, *shape, generator=draw), torch.randint(4, (size,), generator=draw)


def full_eigenvalue(module: SearchModule, data: Batch) -> float:
    """Of the Hessian of the loss by ``torch.autograd.functional``, all of it, in float64."""
    module.double()
    shapes = module.space.gate_shapes

    def loss(*thetas: Tensor) -> Tensor:
        gates = Gates.soft({group: theta.softmax(-1) for group, theta in zip(shapes, thetas, strict=True)})
        return F.cross_entropy(module.supernet(data[0].double(), gates), data[1])

    thetas = tuple(p.detach().clone() for p in module.arch_parameters())
    blocks: Any = torch.autograd.functional.hessian(loss, thetas)
    sizes = [theta.numel() for theta in thetas]
    matrix = torch.cat(
        [torch.cat([block.reshape(n, m) for block, m in zip(row, sizes, strict=True)], 1) for row, n in zip(blocks, sizes, strict=True)]
    )
    values = torch.linalg.eigvalsh(matrix)
    return float(values[values.abs().argmax()])


# -- the figures ----------------------------------------------------------------------------------------------------


def test_the_eigenvalue_is_that_of_the_full_hessian() -> None:
    module = darts()
    found = arch_eigenvalue(module, [batch()], iterations=200)
    assert found == pytest.approx(full_eigenvalue(module, batch()), rel=5e-3)


def test_the_eigenvalue_of_a_fused_supernet_is_that_of_the_plain_one() -> None:
    space = FBNetSpace.small if False else None
    del space


def test_the_look_at_the_eigenvalue_leaves_everything_as_it_was() -> None:
    module = darts()
    module.supernet.layers[0].eval()
    before = digest([module.state_dict(), torch.get_rng_state(), [m.training for m in module.modules()]])
    assert arch_eigenvalue(module, [batch()]) == arch_eigenvalue(module, [batch()])
    assert digest([module.state_dict(), torch.get_rng_state(), [m.training for m in module.modules()]]) == before
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_straight_through_gates_have_an_eigenvalue(tmp_path: Path) -> None:
    module = darts(Gdas)
    fit(module, ToyData(), tmp_path, epochs=1)
    value = arch_eigenvalue(module, [batch()])
    assert value is not None
    assert math.isfinite(value)


def test_a_loss_without_a_gradient_in_the_architecture_has_no_eigenvalue(tmp_path: Path) -> None:
    module = darts()
    module.gates = lambda generator: Gates.soft(module.probabilities())  # type: ignore[method-assign]
    assert arch_eigenvalue(module, [batch()]) is None
