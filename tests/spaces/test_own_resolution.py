"""The size of the images as a decision: against images that torchvision resized."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from helpers import own_modules as modules
from torch import Tensor, nn
from torchvision.transforms.functional import resize

from lightning_nas.choice import Value
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.testing.spaces import SpaceCase

REST = {"width": True, "depth": True, "kernel": True}
RULES = [{**REST, "resolution": [4, 6]}]


@functools.cache
def space() -> FromModel:
    return FromModel(modules.made(modules.Residual), (1, 3, 8, 8), RULES)


def images(count: int = 3) -> Tensor:
    return space().example(count, torch.Generator().manual_seed(2))


class TestResolution(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return space()


def test_every_size_is_the_module_on_resized_images() -> None:
    module, supernet, x = modules.made(modules.Residual), space().supernet().eval(), images()
    assert space().decisions[0].options == ("4", "6", "8")
    for option in ("4", "6", "8"):
        whole = {d.name: d.options[-1] for d in space().decisions} | {"resolution": option}
        architecture = space().validate(whole)
        network = space().extract(supernet, architecture).eval()
        assert list(network.state_dict()) == list(module.state_dict())
        expected = module(x if option == "8" else resize(x, [int(option)] * 2, antialias=True))
        assert torch.equal(network(x), expected)
        assert torch.equal(supernet(x, space().gates(architecture)), expected)
        assert (type(network) is modules.Residual) == (option == "8")
        assert isinstance(network, modules.Residual)


def test_extracted_networks_equal_active_ones_and_their_predicted_size() -> None:
    supernet, x, draw = space().supernet(), images(), torch.Generator().manual_seed(1)
    params, macs = count_space(space(), "params"), count_space(space(), "MACs")
    for architecture in (space().smallest, space().middle, *(space().sample(draw) for _ in range(10))):
        for training in (True, False):
            alone = space().extract(supernet, architecture).train(training)
            assert torch.equal(supernet.train(training)(x, space().gates(architecture)), alone(x))
        assert space().cost(architecture, params) == count_params(alone)
        assert space().cost(architecture, macs) == count_macs(alone, (3, 8, 8))
        for other in (copy.deepcopy(alone), pickle.loads(pickle.dumps(alone))):
            assert torch.equal(other(x), alone(x))
            assert repr(other) == repr(alone)


def test_gates_mix_the_outputs_at_all_sizes() -> None:
    supernet, x = space().supernet().eval(), images()
    weights = {"4": 0.5, "6": 0.3, "8": 0.2}
    values = dict(space().gates(space().largest).values)
    values["resolution"] = torch.tensor([list(weights.values())], requires_grad=True)
    active = dict(space().gates(space().largest).active) | {"resolution": ((0, 1, 2),)}
    mixed = supernet(x, Gates(values, active, one_path=False))
    whole = {d.name: d.options[-1] for d in space().decisions}
    alone = [supernet(x, space().gates(space().validate(whole | {"resolution": option}))) for option in weights]
    torch.testing.assert_close(mixed, sum(w * y for w, y in zip(weights.values(), alone, strict=True)))
    mixed.square().sum().backward()
    expected = torch.stack([(2 * mixed * y).sum() for y in alone])
    torch.testing.assert_close(values["resolution"].grad[0], expected.detach())


def test_the_other_decisions_are_those_without_it() -> None:
    for kind in (modules.Residual, modules.Grouped, modules.Concatenated):
        module = modules.made(kind)
        alone = FromModel(module, modules.shape(kind), [REST])
        both = FromModel(module, modules.shape(kind), [REST, {"resolution": True}])
        assert both.decisions[1:] == alone.decisions
        assert both.decisions[0].name == "resolution"
        assert set(both.graph(both.largest)) == set(alone.graph(alone.largest))
        assert FromModel(module, modules.shape(kind)).decisions == alone.decisions  # it is no part of "everything"


def test_ratios_are_of_both_sides() -> None:
    module = modules.made(modules.Residual)
    told = FromModel(module, (1, 3, 64, 48), [{"resolution": {"ratios": [0.5, 0.75], "divisor": 4}}])
    assert told.decisions[0].options == ("32x24", "48x36", "64x48")
    told = FromModel(module, (1, 3, 64, 48), [{"resolution": [[32, 48], 40]}])
    assert told.decisions[0].options == ("32x48", "40", "64x48")
    network = told.extract(told.supernet(), told.smallest)
    assert "input_size=(32, 48)" in repr(network)
    assert str(told.explain()).splitlines()[1] == "  resolution: 32x48 | 40 | 64x48"


class Even(nn.Module):
    """Patches of two pixels, and a length that is a choice."""

    def __init__(self, label: str | None = None) -> None:
        super().__init__()
        self.scale = Value([1, 2], label) if label else 1
        self.conv, self.head = nn.Conv2d(3, 16, 2, stride=2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise ValueError(f"{x.shape[-1]} pixels cannot be halved")
        logits: Tensor = self.head(self.scale * self.conv(x).mean((2, 3)))
        return logits


def test_sizes_that_the_code_refuses_are_left_out_and_named() -> None:
    told = FromModel(Even(), (1, 3, 8, 8), [{"resolution": [4, 5, 6]}])
    assert told.decisions[0].options == ("4", "6", "8")
    [why] = [why for what, why in told.fixed if what == "resolution 5"]
    assert why.startswith("the module's code needs another size")
    assert "5 pixels cannot be halved" in why


def test_it_goes_with_a_choice_of_the_module_itself() -> None:
    told = FromModel(Even("scale"), (1, 3, 8, 8), RULES)
    assert {d.name for d in told.decisions} == {"resolution", "scale", "conv.width"}
    supernet, x = told.supernet().eval(), images()
    macs = count_space(told, "MACs")
    for number in range(4):
        architecture = told.sample(torch.Generator().manual_seed(number))
        network = told.extract(supernet, architecture).eval()
        assert torch.equal(supernet(x, told.gates(architecture)), network(x))
        assert told.cost(architecture, macs) == count_macs(network, (3, 8, 8))


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.Flatten(), nn.Linear(1024, 5))


@pytest.mark.parametrize(
    ("module", "example", "rule", "said"),
    [
        (modules.Residual, (1, 3, 8, 8), {"resolution": [16]}, "resolution 16 is above that of the example; .* 8$"),
        (modules.Residual, (1, 3, 8, 8), {"resolution": [8]}, "only be 8.*the rule names no other"),
        (modules.Residual, (1, 3, 8, 8), {"resolution": [0]}, "greater than 0"),
        (modules.Residual, (1, 3, 8, 8), {"resolution": True, "match": "stem"}, "no match and no type"),
        (flat, (1, 3, 8, 8), {"resolution": [4]}, "only be 8, .* 4: the module's code needs another size"),
        (modules.Tokens, (1, 5, 12), {"resolution": [3]}, r"needs images \(N, C, H, W\)"),
        (functools.partial(Even, "resolution"), (1, 3, 8, 8), {"resolution": [4]}, "called resolution.*rename it"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(module: object, example: tuple[int, ...], rule: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FromModel(module(), example, [rule])  # type: ignore[operator, list-item]
    assert "\n" not in str(caught.value)
