"""Once-for-All: the contract, what each phase draws, and what it learns from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch.nn import functional as F
from views import NestedToySpace, NestedViewSpace, ViewData

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.ofa import OFA
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import CLASSES, SIZE, ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.schedules import CosinePhases
from lightning_nas.training.seeding import generator, seeded

ELASTIC: dict[str, Any] = {
    "depths": [1, 2, 3],
    "kernels": [3, 5, 7],
    "expansions": [2, 3, 4],
    "width_mult": 1.0,
    "stem": 8,
    "stem_stride": 1,
    "stages": [(16, 2, True, "hard_swish")],
    "mix": 16,
    "dropout": 0.0,
}
QUICK: dict[str, Any] = {**PLAIN, "generations": 1, "population": 2, "parents": 1, "calibration_batches": 1}


def make_ofa(seed: int = 0, space: type[ToySpace] = NestedToySpace, **options: Any) -> OFA:
    defaults = QUICK | {"weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "score_batches": 2}
    made = space()
    with seeded(seed, "supernet"):
        return OFA(made, Classification(), Macs()(made), seed=seed, **defaults | options)


def make_elastic(seed: int = 0, **options: Any) -> OFA:
    """With three options of kernels, depths and expansions."""
    space = OFAMobileNetV3Space(
        image_size=SIZE,
        in_channels=1,
        num_classes=CLASSES,
        resolutions=[SIZE],
        **ELASTIC,
    )
    with seeded(seed, "supernet"):
        return OFA(space, seed=seed, **QUICK | options)


class TestOFA(StrategyCase):
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
    def make(self) -> Callable[..., OFA]:
        return make_ofa

    @pytest.fixture
    def lessons(self) -> SearchData:
        return ViewData()

    def found(self, module: SearchModule) -> Architecture:
        return module.answer()


def test_each_phase_frees_what_it_is_named_after(tmp_path: Path) -> None:
    module, seen = make_elastic(shares=(1.0, 1.0, 2.0, 2.0)), dict[int, list[tuple[Architecture, bool]]]()
    original = module._backward

    def noted(batch: Any, architecture: Architecture, taught: Any) -> torch.Tensor:
        seen.setdefault(module.position, []).append((architecture, taught is not None))
        return original(batch, architecture, taught)

    module._backward = noted  # type: ignore[method-assign]
    trainer = fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=6, every=1000)
    batches = trainer.num_training_batches
    assert sorted(seen) == list(range(6 * batches))
    names, largest = [d.name for d in module.space.decisions], dict(module.space.largest.choices)
    found = {"kernel": set[str](), "depth": set[str](), "expansion": set[str]()}
    for position, networks in seen.items():
        phase = (0, 1, 2, 2, 3, 3)[position // batches]
        assert len(networks) == (1, 1, 2, 4)[phase]
        assert all(taught == (phase > 0) for _, taught in networks)
        free = ((), ("kernel",), ("kernel", "depth"), ("kernel", "depth", "expansion"))[phase]
        for architecture, _ in networks:
            chosen = dict(architecture.choices)
            changed = {name.rpartition(".")[2] for name in names if chosen.get(name, largest[name]) != largest[name]}
            assert changed <= set(free)
            few = position < (2 + 2 * 25 / 145) * batches if phase == 2 else position < (4 + 2 * 25 / 145) * batches
            for name in names if phase > 1 and few else ():
                kind = name.rpartition(".")[2]
                if kind == free[-1]:
                    assert chosen.get(name, largest[name]) != {"depth": "1", "expansion": "2"}[kind]
            for name in names:
                found[name.rpartition(".")[2]].add(chosen.get(name, largest[name]))
    assert found == {"kernel": {"3", "5", "7"}, "depth": {"1", "2", "3"}, "expansion": {"2", "3", "4"}}


def test_the_teacher_is_the_network_at_the_end_of_the_first_phase(tmp_path: Path) -> None:
    module, states = make_elastic(shares=(1.0, 1.0, 1.0, 1.0)), list[dict[str, torch.Tensor]]()

    class Watch(Callback):
        def on_train_batch_start(self, t: Any, m: OFA, batch: Any, i: int) -> None:
            states.append({name: tensor.clone() for name, tensor in m.supernet.named_parameters()})

    trainer = fit(module, ToyData(304), tmp_path, epochs=4, every=1000, callbacks=[Watch()])
    at_the_end, state = states[trainer.num_training_batches], module.teacher.state_dict()
    teacher = {name: state[name] for name in at_the_end}
    assert all(torch.equal(tensor, at_the_end[name]) for name, tensor in teacher.items())
    assert not all(torch.equal(tensor, states[-1][name]) for name, tensor in teacher.items())


def test_a_step_learns_from_labels_and_teacher(tmp_path: Path) -> None:
    """Gradients against autograd on the networks of the step, in the phases of depths and widths."""
    frozen = partial(torch.optim.SGD, lr=0.0)
    module, checked = make_elastic(weights_optimizer=frozen, distillation=0.5, networks=(1, 2, 3)), []

    class Watch(Callback):
        def on_before_optimizer_step(self, t: Any, m: Any, optimizer: Any) -> None:
            self.taken = [None if p.grad is None else p.grad.clone() for p in m.supernet.parameters()]

        def on_train_batch_end(self, t: Any, m: OFA, outputs: Any, batch: Any, i: int) -> None:
            (x, y), (number, few), draw = (
                batch["weights"],
                m.phase(m.position),
                generator(m.seed, "weights", m.position),
            )
            if number < 2:
                return
            m.sample(draw)
            paths = [m.drawn(number, few, {}, draw) for _ in range((2, 3)[number - 2])]
            with torch.no_grad():
                taught = m.supernet(x, m.space.gates(m.space.largest)).softmax(1)  # at rate 0 it is still the teacher
            loss = torch.zeros(())
            for path in paths:
                output = m.supernet(x, m.space.gates(path))
                loss = loss + F.cross_entropy(output, y) + 0.5 * F.cross_entropy(output, taught)
            expected = torch.autograd.grad(loss, list(m.supernet.parameters()), allow_unused=True)
            torch.testing.assert_close(self.taken, list(expected), rtol=1e-4, atol=1e-6)
            checked.append(number)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert set(checked) == {2, 3}


def test_networks_of_a_batch_share_its_resolution() -> None:
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": CLASSES, "resolutions": [6, 7, 8]}
    module = OFA(OFAMobileNetV3Space(**sizes, **ELASTIC), **QUICK)
    draw = torch.Generator().manual_seed(0)
    drawn = [dict(module.drawn(1, False, {"resolution": "7"}, draw).choices) for _ in range(4)]
    assert {choices["resolution"] for choices in drawn} == {"7"}
    assert len({tuple(choices.values()) for choices in drawn}) > 1


def test_on_an_elastic_space_it_resumes_to_the_bit_in_every_phase(tmp_path: Path) -> None:
    with one_thread():
        resume_everywhere(make_elastic, ToyData(304, val_fraction=0.15), tmp_path, epochs=1, every=1)


def test_the_rates_of_each_phase_are_those_of_torchs_cosine() -> None:
    def rates(make: Any, epochs: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
        schedule, found = make(optimizer), []
        for _ in range(epochs):
            found.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
        return found

    ours = rates(partial(CosinePhases, T_max=9, shares=[1, 2], factors=[1.0, 0.1]), 9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    first, second = rates(partial(cosine, T_max=3), 3), rates(partial(cosine, T_max=6), 6)
    assert ours == pytest.approx([*first, *(0.1 * rate for rate in second)])
    with pytest.raises(ConfigError, match="a schedule of 2 shares has 1 factors"):
        rates(partial(CosinePhases, T_max=9, shares=[1, 2], factors=[1.0]), 1)
