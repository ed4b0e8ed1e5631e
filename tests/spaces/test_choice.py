"""Choices inside a module, and operations of rules: against the module itself and slices computed by hand."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import chosen_modules as modules
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nas as ln
from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.testing.spaces import SpaceCase
from lightning_nas.training.network import quiet_trainer
from lightning_nas.training.seeding import seeded
from lightning_nas.trials.child import Child

REPLACED = {"match": "body.*", "type": "Conv2d", "choices": ["keep", {"narrow": modules.narrow}, "skip"]}


@functools.cache
def written() -> FromModel:
    return FromModel(modules.made(modules.Chosen), (1, 3, 8, 8))


@functools.cache
def replaced() -> FromModel:
    rules = [REPLACED, {"match": "body.*", "width": True}]
    return FromModel(modules.made(modules.Plain), (1, 3, 8, 8), rules)


def drawn(space: FromModel, count: int) -> list[Architecture]:
    generator = torch.Generator().manual_seed(1)
    return [space.smallest, space.middle, space.largest, *(space.sample(generator) for _ in range(count))]


def sizes(space: FromModel) -> dict[str, tuple[str, ...]]:
    return {decision.name: decision.options for decision in space.decisions}


class TestWritten(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return written()


class TestReplaced(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return replaced()


def test_choices_in_the_module_are_the_decisions() -> None:
    assert sizes(written()) == {
        "width": ("8", "16"),
        "stem.kernel": ("1", "3", "5"),
        "mixer": ("identity", "separable", "conv2d"),
        "depth": ("1", "2", "3"),
        "blocks.0.up.width": ("1", "2"),
        "blocks.1.up.width": ("1", "2"),
        "blocks.2.up.width": ("1", "2"),
    }
    assert "mixer: identity | separable | conv2d; with again" in str(written().explain())


@pytest.mark.parametrize("training", [False, True])
def test_the_module_on_its_own_is_the_largest_to_the_bit(training: bool) -> None:
    module = modules.made(modules.Chosen)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    space = FromModel(module, (1, 3, 8, 8))
    assert type(module.stem.out_channels) is not int  # the user's object is as it was
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    x = space.example(4, torch.Generator().manual_seed(2))
    supernet = space.supernet().train(training)
    largest = space.extract(supernet, space.largest).train(training)
    assert largest.state_dict().keys() <= module.state_dict().keys()
    assert not largest.load_state_dict(module.state_dict(), strict=False).missing_keys
    expected = module.train(training)(x)
    assert torch.equal(supernet(x, space.gates(space.largest)), expected)
    assert torch.equal(largest(x), expected)


@pytest.mark.parametrize("make", [written, replaced])
def test_extracted_networks_equal_active_ones_and_their_predicted_size(make: Callable[[], FromModel]) -> None:
    space = make()
    supernet, x = space.supernet().eval(), space.example(3, torch.Generator().manual_seed(2))
    params, macs = count_space(space, "params"), count_space(space, "MACs")
    for architecture in drawn(space, 20):
        alone = space.extract(supernet, architecture).eval()
        assert torch.equal(supernet(x, space.gates(architecture)), alone(x))
        assert space.cost(architecture, params) == count_params(alone)
        assert space.cost(architecture, macs) == count_macs(alone, space.input_shape)


def test_chosen_slices_by_hand() -> None:
    module, space = modules.made(modules.Chosen), written()
    chosen = {name: options[-1] for name, options in sizes(space).items()}
    chosen |= {"width": "8", "stem.kernel": "3", "mixer": "separable", "depth": "2", "blocks.1.up.width": "1"}
    network = space.extract(space.supernet(), space.canonical(space.validate(chosen))).eval()
    assert (len(network.blocks), list(network.mixer), network.stem.padding) == (2, ["separable"], (1, 1))
    assert type(network.stem.out_channels) is type(network.blocks.depth) is int
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))
    parts = ("running_mean", "running_var", "weight", "bias")
    y = F.conv2d(x, w["stem.weight"][:8, :, 1:4, 1:4], w["stem.bias"][:8], padding=1)
    y = F.batch_norm(y, *(w[f"norm.{part}"][:8] for part in parts)).relu()
    for name in ("mixer", "again"):
        y = F.conv2d(y, w[f"{name}.separable.0.weight"][:8], w[f"{name}.separable.0.bias"][:8], padding=1, groups=8)
        y = F.conv2d(y, w[f"{name}.separable.1.weight"][:8, :8], w[f"{name}.separable.1.bias"][:8])
    y = F.linear(y.mean((2, 3)), w["join.weight"][:, :8], w["join.bias"])
    for block, hidden in ((0, 16), (1, 8)):
        name = f"blocks.{block}"
        z = F.linear(y, w[f"{name}.up.weight"][:hidden], w[f"{name}.up.bias"][:hidden]).relu()
        y = y + F.linear(z, w[f"{name}.down.weight"][:, :hidden], w[f"{name}.down.bias"])
    torch.testing.assert_close(network(x), F.linear(y, w["head.weight"], w["head.bias"]))


def test_options_are_mixed_by_their_gates() -> None:
    module = nn.Sequential(
        ln.choice.Layer({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}),
        ln.choice.Repeat(lambda _: nn.Linear(4, 4), (0, 2)),
        nn.Linear(4, 3),
    )
    space = FromModel(module, (1, 4))
    x, rows = torch.randn(5, 4), {"0": torch.tensor([[0.3, 0.7]]), "1_depth": torch.tensor([[0.2, 0.3, 0.5]])}
    y = 0.3 * module[0]["a"](x) + 0.7 * module[0]["b"](x)
    y = 0.2 * y + 0.3 * module[1][0](y) + 0.5 * module[1][1](module[1][0](y))
    torch.testing.assert_close(space.supernet()(x, ln.Gates.soft(rows)), module[2](y))


class Pooled(nn.AvgPool1d):
    """Pooling of images of one channel and one row."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, None])[:, 0]


class Steps(nn.Module):
    """A layer that runs several times, with a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(4, 4), ln.choice.Value([1, 3])
        self.temperature = ln.choice.Value([0.5, 2.0], label="temperature")

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            x = self.layer(x).relu()
        return x / self.temperature


@functools.cache
def varied() -> FromModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FromModel(
            nn.Sequential(Steps(), nn.Dropout(ln.choice.Value([0.1, 0.5])), nn.Linear(4, 3)).eval(), (1, 4)
        )


class TestVaried(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return varied()


def test_values_that_are_no_size_make_modules_run_otherwise() -> None:
    space = varied()
    assert sizes(space) == {"0.steps": ("1", "3"), "temperature": ("0.5", "2.0"), "1.p": ("0.1", "0.5")}
    supernet, x = space.supernet().eval(), torch.randn(5, 4)
    network = space.extract(supernet, space.validate({"0.steps": "1", "temperature": "0.5", "1.p": "0.1"})).eval()
    assert (network[0].steps, network[0].temperature, network[1].p, type(network[0])) == (1, 0.5, 0.1, Steps)
    torch.testing.assert_close(network(x), network[2](network[0].layer(x).relu() / 0.5))
    rows = {"0_steps": torch.tensor([[0.3, 0.7]]), "temperature": torch.tensor([[0.6, 0.4]]), "1_p": torch.eye(2)[:1]}
    layer, one = network[0].layer, network[0].layer(x).relu()
    three = layer(layer(one).relu()).relu()
    mixed = (0.3 * one + 0.7 * three) * (0.6 / 0.5 + 0.4 / 2.0)
    torch.testing.assert_close(supernet(x, ln.Gates.soft(rows)), network[2](mixed))
    macs = count_space(space, "MACs")
    for architecture in drawn(space, 4):
        assert space.cost(architecture, macs) == count_macs(space.network(architecture), (4,))


def test_the_largest_of_replaced_operations_has_the_names_of_the_module() -> None:
    module, space = modules.made(modules.Plain), replaced()
    assert sizes(space) == {
        "body.0": ("narrow", "keep"),
        "body.0.keep.width": ("4", "8"),
        "body.0.narrow.0.width": ("2", "4"),
        "body.2": ("skip", "narrow", "keep"),
        "body.2.narrow.0.width": ("2", "4"),
    }
    assert dict(space.fixed)["body.0: option skip"] == "gives the shape (3, 8, 8), keep gives (8, 4, 4)"
    largest = space.extract(space.supernet(), space.largest)
    assert list(largest.state_dict()) == list(module.state_dict())
    assert repr(largest) == repr(module)
    x = space.example(2, torch.Generator().manual_seed(3))
    assert torch.equal(largest.eval()(x), module(x))
    smallest = space.extract(space.supernet(), space.smallest)
    assert isinstance(smallest.body[2], nn.Identity)
    assert smallest.body[0][0].out_channels == 2


def test_rules_add_to_the_choices_of_a_module() -> None:
    space = FromModel(modules.made(modules.Chosen), (1, 3, 8, 8), [{"match": "join", "width": True}])
    assert sizes(space) == {**sizes(written()), "join.width": ("4", "8")}


def _wide() -> nn.Module:
    a, b = ln.choice.Value([4, 8], label="a"), ln.choice.Value([4, 8], label="b")
    return modules.Sum(nn.Linear(4, a), nn.Linear(4, b), nn.Linear(8, 5))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ln.choice.Layer([nn.Identity()]), "two modules or more"),
        (lambda: ln.choice.Layer([nn.Identity(), "relu"]), "'relu'"),  # type: ignore[list-item]
        (lambda: ln.choice.Layer({"a b": nn.Identity(), "c": nn.ReLU()}), "'a b'"),
        (lambda: ln.choice.Layer({"items": nn.Identity(), "c": nn.ReLU()}), "'items'"),
        (lambda: ln.choice.Layer([nn.Identity(), nn.ReLU()], label=""), "label"),
        (lambda: ln.choice.Value([3]), "two different numbers"),
        (lambda: ln.choice.Value([3, 3]), "two different numbers"),
        (lambda: ln.choice.Value(["a", "b"]), "two different numbers"),  # type: ignore[list-item]
        (lambda: ln.choice.Value([1, 2]) * ln.choice.Value([1, 2]), "cannot be combined"),
        (lambda: ln.choice.Repeat(lambda _: nn.ReLU(), (2, 2)), "least < most"),
        (lambda: ln.choice.Repeat([nn.ReLU()], (1, 2)), "1 blocks"),
        (lambda: ln.choice.Repeat([nn.ReLU()], ln.choice.Value([1.5, 2])), "whole numbers"),
    ],
)
def test_a_wrong_choice_is_refused_where_it_is_made(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_wide, "one value or one label"),
        (lambda: nn.Linear(4, ln.choice.Value([4, 8])), "they are the output"),
        (lambda: nn.Sequential(nn.Linear(4, ln.choice.Value([6, 8])), nn.GroupNorm(2, 8), nn.Linear(8, 5)), "of 4"),
        (lambda: nn.Sequential(nn.Linear(4, 8), nn.Linear(ln.choice.Value([4, 8]), 5)), "no layer has that number"),
        (lambda: nn.Sequential(ln.choice.Layer([nn.Linear(4, 4), nn.Linear(4, 3)]), nn.Linear(4, 5)), "one shape"),
        (lambda: nn.Sequential(ln.choice.Layer([nn.Linear(4, 4), nn.ReLU(True)]), nn.Linear(4, 5)), "in place"),
        (
            lambda: nn.Sequential(
                nn.Linear(4, ln.choice.Value([4, 8], label="w")), nn.Linear(8, ln.choice.Value([2, 4], label="w")),
                nn.Linear(4, 5)),
            "choice 'w' has the options 4, 8",
        ),
        (lambda: nn.Sequential(Pooled(ln.choice.Value([1, 2])), nn.Linear(2, 5)), "one shape for all options"),
    ],
)  # fmt: skip
def test_a_choice_that_the_module_does_not_allow_is_refused(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FromModel(make(), (1, 4))
    assert "\n" not in str(caught.value)


def test_a_kernel_without_padding_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, ln.choice.Value([1, 3])), nn.Flatten(), nn.Linear(4 * 36, 5))
    with pytest.raises(InputError, match="padding is too small"):
        FromModel(module, (1, 3, 8, 8))


def test_one_module_under_two_conditions_is_refused() -> None:
    shared = nn.Linear(4, 4)
    module = nn.Sequential(ln.choice.Layer({"a": shared, "b": nn.ReLU()}), shared, nn.Linear(4, 5))
    with pytest.raises(InputError, match="one module"):
        FromModel(module, (1, 4))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["skip"], "choices need keep"),
        (["keep", 3], "option 2 is 3"),
        (["keep", {"a": nn.Identity}, {"a": nn.ReLU}], "two options are called a"),
        (["keep", lambda conv: conv.weight], "legal: a torch.nn.Module"),
        (["keep", {"broken": lambda conv: conv.nothing}], "broken cannot be made"),
    ],
)
def test_wrong_operations_of_a_rule_are_one_clear_line(choices: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FromModel(modules.made(modules.Plain), (1, 3, 8, 8), [{"type": "Conv2d", "choices": choices}])
    assert "\n" not in str(caught.value)


def test_values_survive_copies_and_arithmetic() -> None:
    value = ln.choice.Value([4, 8], label="w")
    twice = copy.deepcopy([2 * value + 1, value // 4, value / 2])
    assert [entry.numbers for entry in twice] == [(9, 17), (1, 2), (2.0, 4.0)]
    assert (int(twice[0]), float(twice[2])) == (17, 4.0)
    assert twice[0].choice is twice[1].choice


@pytest.mark.parametrize("name", ["Layer", "Repeat", "Value"])
def test_public_choices_have_examples(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(ln.choice, name)) or "")


@pytest.mark.parametrize("strategy", ["fbnet", "spos", "evolution"])
def test_strategies_search_the_choices(strategy: str, tmp_path: Path) -> None:
    x, y = torch.rand(80, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 5
    data, space = ln.ArrayData(x, y, batch_size=8), written()
    search: Any = {
        "fbnet": lambda: ln.FBNet(space, table=Macs()(space), arch_warmup_epochs=0),
        "spos": lambda: ln.SPOS(space, table=Macs()(space)),
        "evolution": lambda: ln.RegularizedEvolution(space, trials=3, child=Child(epochs=1), population=2, sample=2),
    }[strategy]()
    with seeded(0, "a search"):
        quiet_trainer(1).fit(search, datamodule=data)
    answer = search.answer()
    assert space.validate(answer) == answer
    assert space.network(answer)(x[:2]).shape == (2, 5)
