"""BigNAS: the contract, what its step differs in from that of a sandwich, and elastic spaces."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn import functional as F
from views import NestedToySpace, NestedViewSpace, ViewData

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.bignas import BigNAS, undropped
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.distributed import two_ranks
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import CLASSES, SIZE, ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.schedules import ExponentialToFloor
from lightning_nas.training.seeding import generator, seeded

QUICK: dict[str, Any] = {**PLAIN, "generations": 1, "population": 2, "parents": 1, "calibration_batches": 1}


def make_bignas(seed: int = 0, space: type[ToySpace] = NestedToySpace, **options: Any) -> BigNAS:
    defaults = QUICK | {"weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "score_batches": 2}
    made = space()
    with seeded(seed, "supernet"):
        return BigNAS(made, Classification(), Macs()(made), seed=seed, **defaults | options)


def make_elastic(seed: int = 0, **options: Any) -> BigNAS:
    """On an elastic network with dropout."""
    stages = [((8, 16), (1, 2), (3, 5), (1,), 1, False), ((8, 16), (1,), (3,), (2, 3), 2, True)]
    sizes: dict[str, Any] = {"image_size": SIZE, "in_channels": 1, "num_classes": CLASSES, "resolutions": [SIZE]}
    told = {"stem": [8], "stem_stride": 1, "stages": stages, "mix": [16], "dropout": 0.5, "spare_shortcuts": False}
    space = AttentiveNASSpace(**sizes, **told)
    with seeded(seed, "supernet"):
        return BigNAS(space, Classification(), Macs()(space), seed=seed, **QUICK | options)


class TestBigNAS(StrategyCase):
    """The evolution scores 24 of 81 architectures."""

    epochs = 1
    search_options: ClassVar = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
        "space": NestedViewSpace,
        "generations": 6,
        "population": 4,
        "parents": 2,
        "mutation": 0.2,
    }
    search_epochs, search_seeds, found_at_least, candidates, paths = 4, 1, 1, 24, 4

    @pytest.fixture
    def make(self) -> Callable[..., BigNAS]:
        return make_bignas

    @pytest.fixture
    def lessons(self) -> SearchData:
        return ViewData()

    def found(self, module: SearchModule) -> Architecture:
        return module.answer()


def test_a_step_regularises_the_largest_network_alone(tmp_path: Path) -> None:
    """Gradients against autograd on the networks themselves, dropout drawn again from the same random state."""
    module, taken = make_elastic(weights_optimizer=partial(torch.optim.SGD, lr=0.0), between=1), []

    class Watch(Callback):
        def on_train_batch_start(self, t: Any, m: BigNAS, batch: Any, i: int) -> None:
            self.states = list[torch.Tensor]()
            self.handle = m.supernet.register_forward_pre_hook(lambda *_: self.states.append(torch.get_rng_state()))

        def on_before_optimizer_step(self, t: Any, m: Any, optimizer: Any) -> None:
            taken.append([None if p.grad is None else p.grad.clone() for p in m.parameters()])

        def on_train_batch_end(self, t: Any, m: BigNAS, outputs: Any, batch: Any, i: int) -> None:
            self.handle.remove()
            (x, y), space, (first, second, third) = batch["weights"], m.space, self.states
            assert torch.equal(second, third), "another network than the largest drew dropout"
            torch.set_rng_state(first)
            largest = m.supernet(x, space.gates(space.largest))
            assert torch.equal(torch.get_rng_state(), second)
            m.supernet.head.dropout.eval()
            loss = F.cross_entropy(largest, y)
            for path in (space.smallest, space.sample(generator(m.seed, "weights", m.position))):
                loss = loss + F.cross_entropy(m.supernet(x, space.gates(path)), largest.detach().softmax(1))
            m.supernet.head.dropout.train()
            expected = torch.autograd.grad(loss, list(m.parameters()), allow_unused=True)
            torch.testing.assert_close(taken[-1], list(expected), rtol=1e-4, atol=1e-6)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert len(taken) == module.weights_steps > 2


class Saved:
    """The bytes that autograd holds for backward passes, and their peak."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(partial(_Held, self), lambda held: held.tensor)


class _Held:
    def __init__(self, saved: Saved, tensor: torch.Tensor) -> None:
        self.saved, self.tensor = saved, tensor
        saved.now += tensor.nbytes
        saved.peak = max(saved.peak, saved.now)

    def __del__(self) -> None:
        self.saved.now -= self.tensor.nbytes


def test_a_step_holds_no_more_than_that_of_the_largest_network(tmp_path: Path) -> None:
    module, ratios = make_elastic(), []

    class Watch(Callback):
        def on_train_batch_start(self, t: Any, m: BigNAS, batch: Any, i: int) -> None:
            self.step = Saved()
            self.step.hooks.__enter__()

        def on_train_batch_end(self, t: Any, m: BigNAS, outputs: Any, batch: Any, i: int) -> None:
            self.step.hooks.__exit__(None, None, None)
            (x, y), alone = batch["weights"], Saved()
            with alone.hooks:
                F.cross_entropy(m.supernet(x, m.space.gates(m.space.largest)), y).backward()
            ratios.append(self.step.peak / alone.peak)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert len(ratios) > 2
    assert max(ratios) <= 1.1


def test_on_an_elastic_space_it_resumes_to_the_bit(tmp_path: Path) -> None:
    with one_thread():
        resume_everywhere(make_elastic, ToyData(304, val_fraction=0.15), tmp_path, epochs=1, every=2)


def test_on_an_elastic_space_two_processes_end_equal(tmp_path: Path) -> None:
    with one_thread():
        first, second = two_ranks(partial(make_elastic, 2), ToyData(304, val_fraction=0.15), tmp_path)
    assert first == second


def test_the_answer_keeps_a_target(tmp_path: Path) -> None:
    space = make_elastic().space
    table = Macs()(space)
    middle = (space.cost(space.smallest, table) + space.cost(space.largest, table)) / 2
    module = make_elastic(target=middle, population=4)
    fit(module, ToyData(304), tmp_path, epochs=1, every=1000)
    assert space.cost(module.answer(), table) <= middle
    assert all(space.cost(candidate.architecture, table) <= middle for candidate in module.evolved)


def test_everything_that_drops_at_random_is_off_and_on_again() -> None:
    class DropPath(nn.Identity):
        """As timm calls it."""

    network = nn.Sequential(
        *(nn.Dropout2d(0.5), nn.AlphaDropout(0.5), DropPath(), nn.MultiheadAttention(4, 2, dropout=0.5)),
        *(nn.BatchNorm1d(4), nn.Dropout(0.5).eval(), nn.Linear(4, 4)),
    )
    with undropped(network):
        assert [module.training for module in network] == [False] * 4 + [True, False, True]
    assert [module.training for module in network] == [True] * 5 + [False, True]


def test_it_searches_a_network_of_ones_own(tmp_path: Path) -> None:
    layers = (nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2))
    space = FromModel(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)), (1, 1, 4, 4))
    module = BigNAS(space, **QUICK)
    fit(module, ToyData(304), tmp_path, epochs=1, every=1000)
    assert space.validate(module.answer()) in {space.smallest, space.largest}


def test_a_space_without_a_largest_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy=bignas: the networks of toy are not parts of a largest one; legal"):
        BigNAS(ToySpace())


def test_the_rate_falls_by_a_factor_to_a_share() -> None:
    """Against torch's own exponential schedule, bounded from below."""
    made = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2) for _ in range(2)]
    ours = ExponentialToFloor(made[0], gamma=0.7, floor=0.1)
    theirs = torch.optim.lr_scheduler.ExponentialLR(made[1], gamma=0.7)
    for _ in range(10):
        assert ours.get_last_lr()[0] == pytest.approx(max(theirs.get_last_lr()[0], 0.02))
        for optimizer, schedule in zip(made, (ours, theirs), strict=True):
            optimizer.step()
            schedule.step()
