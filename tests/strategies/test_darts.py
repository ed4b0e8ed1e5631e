from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_nas.errors import ConfigError
from lightning_nas.functional.hypergradient import VirtualStep, unrolled_gradient
from lightning_nas.ops.recurrent import Window
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_darts(seed: int = 0, **options: Any) -> DARTS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "order": "second",
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=3e-4),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999), weight_decay=1e-3),
        "theta_std": 1e-3,
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return DARTS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestDartsOfSecondOrder(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., DARTS]:
        return make_darts


class TestDartsOfFirstOrder(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., DARTS]:
        return partial(make_darts, order="first")


class Spy(DARTS):
    """Keeps the gradient of the architecture parameters of the first step, and what it was computed from."""

    def arch_backward(self, batch: Any, weights_batch: Any) -> Tensor:
        if not hasattr(self, "seen"):
            state = {name: value.clone() for name, value in self.supernet.state_dict().items()}
            loss = super().arch_backward(batch, weights_batch)
            gradients = [p.grad.clone() for p in self.arch_parameters() if p.grad is not None]
            self.seen = batch, weights_batch, state, gradients
            self.buffers = {name: value.clone() for name, value in self.supernet.named_buffers()}
            return loss
        return super().arch_backward(batch, weights_batch)


def first_step(tmp_path: Path, **options: Any) -> Spy:
    optimizers = {
        **PLAIN_ARCH,
        "order": "second",
        "weights_optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=3e-4),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1),
    }
    with seeded(0, "supernet"):
        module = Spy(ToySpace(), Classification(), theta_std=0.5, **optimizers | options)
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    return module


def before_the_step(module: Spy) -> Spy:
    """The search as it was before its first step."""
    with seeded(0, "supernet"):
        fresh = Spy(ToySpace(), Classification(), theta_std=0.5, weights_optimizer=None, arch_optimizer=None)  # type: ignore[arg-type]
    fresh.supernet.load_state_dict(module.seen[2])
    return fresh


def gradient_by_unrolling(module: Spy, clip: float = 5.0) -> list[Tensor]:
    """What the step should have been, by autograd through a step taken in the graph with torch.func."""
    (x, y), (train_x, train_y), _, _ = module.seen
    fresh = before_the_step(module)
    weights = dict(fresh.supernet.named_parameters())

    def loss(parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        gates = fresh.gates(torch.Generator())
        return fresh.task.loss(torch.func.functional_call(fresh.supernet, parameters, (images, gates)), labels)

    taken = torch.autograd.grad(loss(weights, train_x, train_y), list(weights.values()), create_graph=True)
    factor = clip / (torch.cat([g.flatten() for g in taken]).norm() + 1e-6)
    gradients = [g * factor.clamp(max=1.0) for g in taken]
    moved = {name: w - 0.05 * (g + 3e-4 * w.detach()) for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return list(torch.autograd.grad(loss(moved, x, y), fresh.arch_parameters()))


def test_the_step_inside_a_run_has_the_gradient_of_an_unrolled_step(tmp_path: Path) -> None:
    modules = {order: first_step(tmp_path / order, order=order) for order in ("exact", "second", "first")}
    [truth] = gradient_by_unrolling(modules["exact"])
    errors = {order: float((module.seen[3][0] - truth).norm() / truth.norm()) for order, module in modules.items()}
    assert errors["exact"] < 1e-4
    assert errors["second"] < 0.5 * errors["first"]  # the difference is across kinks of ReLU, in float32


def test_the_virtual_step_inside_a_run_is_clipped_like_the_real_one(tmp_path: Path) -> None:
    module = first_step(tmp_path, order="exact", weights_clip=0.3)
    [clipped], [free] = gradient_by_unrolling(module, clip=0.3), gradient_by_unrolling(module, clip=1e6)
    torch.testing.assert_close(module.seen[3][0], clipped, rtol=1e-3, atol=1e-7)
    assert float((free - clipped).norm() / clipped.norm()) > 0.02


@pytest.mark.parametrize(("order", "passes"), [("exact", 2), ("second", 3)])
def test_only_passes_on_the_training_batch_move_running_statistics(tmp_path: Path, order: str, passes: int) -> None:
    module = first_step(tmp_path, order=order)
    fresh, (x, _) = before_the_step(module), module.seen[1]
    for _ in range(passes):
        fresh.supernet(x, fresh.gates(torch.Generator()))
    expected = dict(fresh.supernet.named_buffers())
    assert any(name.endswith("num_batches_tracked") for name in expected)
    # two of the three passes of the difference have weights that are 0.01 away
    tolerance: dict[str, float] = {"rtol": 1e-6, "atol": 1e-7} if order == "exact" else {"rtol": 0.05, "atol": 5e-3}
    for name, value in module.buffers.items():
        torch.testing.assert_close(value, expected[name], **tolerance)


def test_recurrent_cells_look_through_the_clipped_step() -> None:
    space = DARTSRNNSpace("tiny", bptt=5, num_classes=9, width=6, steps=2)
    with seeded(0, "supernet"):
        supernet = space.supernet().double().eval()  # without dropout
    draw = torch.Generator().manual_seed(1)
    parts = [torch.randint(9, (4, 6), generator=draw) for _ in range(2)]
    theta = torch.nn.Parameter(torch.randn(next(iter(space.gate_shapes.values())), generator=draw, dtype=torch.float64))
    weights = dict(supernet.named_parameters())

    def loss(part: int, parameters: dict[str, Tensor]) -> Tensor:
        gates = Gates.soft({group: theta.softmax(-1) for group in space.gate_shapes})
        words = parts[part]
        logits = torch.func.functional_call(supernet, parameters, (Window(words[:, :-1]), gates))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())

    taken = torch.autograd.grad(loss(0, weights), list(weights.values()), create_graph=True)
    factor = 0.25 / (torch.cat([g.flatten() for g in taken]).norm() + 1e-6)
    assert factor < 1
    moved = {
        name: w - 20 * (factor * g + 5e-7 * w.detach()) for (name, w), g in zip(weights.items(), taken, strict=True)
    }
    [truth] = torch.autograd.grad(loss(1, moved), [theta])
    for mixed, tolerance in (("exact", 1e-9), ("difference", 1e-2)):
        _, [gradient] = unrolled_gradient(
            lambda: loss(0, weights),
            lambda: loss(1, weights),
            list(weights.values()),
            [theta],
            VirtualStep(lr=20.0, weight_decay=5e-7, clip=0.25),
            mixed=mixed,  # type: ignore[arg-type]
            epsilon=1e-5,
        )
        assert float((gradient - truth).norm() / truth.norm()) < tolerance


def test_first_order_is_one_step_of_adam_on_the_validation_gradient(tmp_path: Path) -> None:
    module = first_step(tmp_path, order="first")
    (x, y), _, state, [gradient] = module.seen
    module.supernet.load_state_dict(state)
    with seeded(0, "supernet"):
        theta = Spy(ToySpace(), Classification(), theta_std=0.5, weights_optimizer=None, arch_optimizer=None).theta  # type: ignore[arg-type]
    module.theta.load_state_dict(theta.state_dict())
    loss = module.task_loss((x, y), module.gates(torch.Generator()))
    torch.testing.assert_close(torch.autograd.grad(loss, module.arch_parameters())[0], gradient)


def test_second_order_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="alternate=batch"):
        make_darts(alternate="epoch", order="exact")
    module = make_darts(weights_optimizer=partial(torch.optim.Adam, lr=0.1), arch_warmup_epochs=50)
    with pytest.raises(ConfigError, match=r"strategy\.order=first"):
        fit(module, ToyData(), tmp_path, epochs=100)
    assert module.weights_steps == 0  # at once, not at the first architecture step after the warm-up
    rising = make_darts(weights_optimizer=partial(torch.optim.SGD, lr=0.1, maximize=True))
    with pytest.raises(ConfigError, match=r"SGD\(maximize=True\)"):
        fit(rising, ToyData(), tmp_path, epochs=1)


def test_it_searches_on_the_space_of_fbnet() -> None:
    space = FBNetSpace(image_size=8, in_channels=1, num_classes=4, stem=(8, 1), stages=[(8, 1, 1), (16, 2, 2)], head=8)
    module = DARTS(space, Classification(), weights_optimizer=None, arch_optimizer=None)  # type: ignore[arg-type]
    batch = torch.randn(4, 1, 8, 8), torch.arange(4)
    module.arch_loss(batch).backward()
    assert all(p.grad is not None for p in module.arch_parameters())


def test_the_architecture_loss_has_nothing_of_what_regularises_the_weights() -> None:
    space = DARTSRNNSpace("tiny", bptt=5, num_classes=9, width=6, steps=2)
    optimizers: dict[str, Any] = {"weights_optimizer": None, "arch_optimizer": None}
    module = DARTS(space, LanguageModelling(slowness=3.0), order="first", **optimizers).eval()  # without dropout
    words = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(0))
    batch = Window(words[:, :-1]), words[:, 1:]
    logits = module.supernet(batch[0], Gates.soft(module.probabilities()))
    entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())
    assert batch[0].states is not None
    change = batch[0].states.diff(dim=1).square().mean()
    assert change > 0
    torch.testing.assert_close(module.arch_loss(batch), entropy)
    torch.testing.assert_close(module.weights_loss(batch), entropy + 3 * change)
