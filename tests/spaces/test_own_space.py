"""A module of one's own as a search space: against the module itself, and against slices computed by hand."""

from __future__ import annotations

import copy
import functools
import hashlib

import pytest
import torch
import torchvision
from helpers import own_modules as modules
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.spaces.own.shapes import Shapes
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.testing.spaces import SpaceCase

KINDS = [
    *(modules.Residual, modules.Grouped, modules.Concatenated, modules.Flattened, modules.Tied, modules.Tokens),
    *(modules.Written, modules.Halves, modules.Merged),
]
VISION = {
    "resnet": lambda: torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 2, 1, 1], num_classes=5),
    "mobilenet": lambda: torchvision.models.MobileNetV3(
        [_inverted(3, 1, "RE"), _inverted(5, 2, "HS")], 32, num_classes=5
    ),
    "densenet": lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5),
    "shufflenet": lambda: torchvision.models.ShuffleNetV2([1, 2, 1], [24, 48, 64, 96, 64], num_classes=5),
}


def _inverted(kernel: int, stride: int, activation: str) -> torchvision.models.mobilenetv3.InvertedResidualConfig:
    kind = torchvision.models.mobilenetv3.InvertedResidualConfig
    return kind(16, kernel, 32, 16, True, activation, stride, 1, 1.0)


def vision(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VISION[name]().eval()


@functools.cache
def own(kind: type[nn.Module]) -> FromModel:
    return FromModel(modules.made(kind), modules.shape(kind))


def drawn(space: FromModel, count: int) -> list[Architecture]:
    generator = torch.Generator().manual_seed(1)
    return [space.smallest, space.middle, space.largest, *(space.sample(generator) for _ in range(count))]


def sizes(space: FromModel) -> dict[str, tuple[str, ...]]:
    return {decision.name: decision.options for decision in space.decisions}


class TestResidual(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return own(modules.Residual)


class TestConcatenated(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return own(modules.Concatenated)


class TestFlattened(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return own(modules.Flattened)


@pytest.fixture(scope="module", params=[*KINDS, *VISION], ids=lambda kind: getattr(kind, "__name__", kind))
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, FromModel]:
    if isinstance(request.param, str):
        module, shape = vision(request.param), (1, 3, 32, 32)
    else:
        module, shape = modules.made(request.param), modules.shape(request.param)
    before = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in module.state_dict().items()}
    text = repr(module)
    space = FromModel(module, shape)
    after = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in module.state_dict().items()}
    assert (before, text, module.training) == (after, repr(module), False)
    return module, space


@pytest.mark.parametrize("training", [False, True])
def test_the_largest_is_the_module_to_the_bit(pair: tuple[nn.Module, FromModel], training: bool) -> None:
    module, space = copy.deepcopy(pair[0]).train(training), pair[1]
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    x = space.example(4, torch.Generator().manual_seed(2))
    supernet = FromModel(module, (1, *space.input_shape)).supernet().train(training)
    largest = space.extract(supernet, space.largest).train(training)
    assert list(largest.state_dict()) == list(module.state_dict())
    assert type(largest) is type(module)
    largest.load_state_dict(module.state_dict())
    mixed, alone, expected = supernet(x, space.gates(space.largest)), largest(x), module(x)
    assert torch.equal(mixed, expected)
    assert torch.equal(alone, expected)
    for name, value in largest.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_extracted_networks_equal_active_ones_to_the_bit(pair: tuple[nn.Module, FromModel]) -> None:
    _, space = pair
    supernet, x = space.supernet(), space.example(3, torch.Generator().manual_seed(2))
    for architecture in drawn(space, 5):
        for training in (True, False):
            alone = space.extract(supernet, architecture).train(training)
            for layer in (*alone.modules(), *supernet.modules()):
                if isinstance(layer, nn.Dropout):
                    layer.p = 0.0
            assert torch.equal(supernet.train(training)(x, space.gates(architecture)), alone(x))
            again = space.extract(supernet, architecture)  # running statistics were stored where they belong
            assert all(torch.equal(a, b) for a, b in zip(again.buffers(), alone.buffers(), strict=True))


def test_parameters_and_macs_are_predicted_to_the_unit(pair: tuple[nn.Module, FromModel]) -> None:
    _, space = pair
    params, macs = count_space(space, "params"), count_space(space, "MACs")
    for architecture in drawn(space, 3):
        network = space.network(architecture)
        assert space.cost(architecture, params) == count_params(network)
        assert space.cost(architecture, macs) == count_macs(network, space.input_shape)


def test_weights_that_are_not_sampled_get_no_gradient() -> None:
    space = own(modules.Residual)
    supernet = space.supernet()
    options = {d.name: d.options[-1] for d in space.decisions} | {"stem.width": "8"}
    supernet(space.example(3, torch.Generator()), space.gates(space.validate(options))).sum().backward()
    supernet.network.stem.weight.grad[8:].abs().sum()
    assert float(supernet.network.stem.weight.grad[8:].abs().sum()) == 0
    assert float(supernet.network.stem.weight.grad[:8].abs().sum()) > 0


def test_residual_squeeze_and_depthwise_slices_by_hand() -> None:
    module = modules.made(modules.Residual)
    space = FromModel(module, (1, 3, 8, 8))
    assert sizes(space) == {
        "stem.width": ("8", "16"),
        "block.depth": ("skip", "keep"),
        "block.expand.width": ("16", "24", "32"),
        "block.depthwise.kernel": ("k3", "k5"),
        "block.squeeze.width": ("4", "8"),
    }
    options = {"stem.width": "8", "block.depth": "keep", "block.expand.width": "24", "block.depthwise.kernel": "k3"}
    network = space.extract(space.supernet(), space.validate(options | {"block.squeeze.width": "4"})).eval()
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))

    def norm(y: Tensor, name: str, width: int) -> Tensor:
        rows = [w[f"{name}.{part}"][:width] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *rows)

    y = norm(F.conv2d(x, w["stem.weight"][:8], padding=1), "norm", 8).relu()
    z = F.conv2d(y, w["block.expand.weight"][:24, :8], w["block.expand.bias"][:24])
    z = F.conv2d(z, w["block.depthwise.weight"][:24, :, 1:4, 1:4], padding=1, groups=24)
    z = norm(z, "block.norm", 24).relu()
    s = F.conv2d(z.mean((2, 3), keepdim=True), w["block.squeeze.weight"][:4, :24], w["block.squeeze.bias"][:4]).relu()
    z = z * F.conv2d(s, w["block.excite.weight"][:24, :4], w["block.excite.bias"][:24]).sigmoid()
    y = y + F.conv2d(z, w["block.project.weight"][:8, :24])
    torch.testing.assert_close(network(x), F.linear(y.mean((2, 3)), w["head.weight"][:, :8], w["head.bias"]))
    options |= {"block.depth": "skip", "block.squeeze.width": "4"}
    without = space.extract(space.supernet(), space.validate(options))
    assert isinstance(without.block, nn.Identity)


def test_grouped_slices_by_hand() -> None:
    module = modules.made(modules.Grouped)
    space = FromModel(module, (1, 3, 8, 8))
    assert sizes(space) == {"a.width": ("8", "16")}  # of 4 groups whole ones are kept
    network = space.extract(space.supernet(), space.validate({"a.width": "8"})).eval()
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))
    y = F.conv2d(x, w["a.weight"][:8], w["a.bias"][:8])
    y = F.conv2d(y, w["b.weight"][:8], w["b.bias"][:8], padding=1, groups=2).relu()
    y = F.conv2d(y, w["c.weight"][:16], groups=2).relu()
    y = F.conv2d(y, w["d.weight"][:8], w["d.bias"][:8], groups=4)
    expected = F.conv2d(y, w["head.weight"][:, :8], w["head.bias"]).mean((2, 3))
    torch.testing.assert_close(network(x), expected)


def test_concatenated_slices_by_hand() -> None:
    module = modules.made(modules.Concatenated)
    space = FromModel(module, (1, 3, 8, 8))
    assert list(sizes(space)) == ["left.width", "right.width", "mix.width"]
    chosen = {"left.width": "4", "right.width": "8", "mix.width": "8"}
    network = space.extract(space.supernet(), space.validate(chosen)).eval()
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))
    both = [*range(4), *range(8, 16)]
    twice = [place for channel in both for place in (2 * channel, 2 * channel + 1)]
    left = F.conv2d(x, w["left.weight"][:4], w["left.bias"][:4]).relu()
    y = torch.cat([left, F.conv2d(x, w["right.weight"][:8], padding=1)], 1)
    y = F.batch_norm(y, *(w[f"norm.{part}"][both] for part in ("running_mean", "running_var", "weight", "bias")))
    y = F.conv2d(y, w["depthwise.weight"][twice], w["depthwise.bias"][twice], padding=1, groups=12)
    y = F.conv2d(y, w["mix.weight"][:8][:, twice], w["mix.bias"][:8]).relu()
    y = torch.cat([y, left], 1).mean((2, 3))
    kept = [*range(8), *range(16, 20)]
    torch.testing.assert_close(network(x), F.linear(y, w["head.weight"][:, kept], w["head.bias"]))


def test_flattened_and_normalised_slices_by_hand() -> None:
    module = modules.made(modules.Flattened)
    space = FromModel(module, (1, 3, 8, 8))
    assert sizes(space) == {"conv.width": ("8", "16"), "hidden.width": ("16", "24", "32")}
    network = space.extract(space.supernet(), space.validate({"conv.width": "8", "hidden.width": "24"})).eval()
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))
    y = F.conv2d(x, w["conv.weight"][:8], w["conv.bias"][:8], padding=1)
    y = F.group_norm(y, 2, w["group.weight"][:8], w["group.bias"][:8])
    parts = ("running_mean", "running_var", "weight", "bias")
    y = F.prelu(F.batch_norm(y, *(w[f"instance.{part}"][:8] for part in parts)), w["slope.weight"][:8])
    y = F.max_pool2d(y, 2).flatten(1)  # each channel is 16 places
    y = w["gain"][:24] * F.linear(y, w["hidden.weight"][:24, : 8 * 16], w["hidden.bias"][:24])
    y = F.layer_norm(y, (24,), w["layer.weight"][:24], w["layer.bias"][:24]).relu()
    torch.testing.assert_close(network(x), F.linear(y, w["head.weight"][:, :24], w["head.bias"]))


def test_tied_weights_stay_tied() -> None:
    space = FromModel(modules.made(modules.Tied), (1, 6))
    assert sizes(space) == {"first.width": ("8", "16")}
    network = space.extract(space.supernet(), space.smallest)
    assert network.other.weight is network.again.weight
    assert network.again.weight.shape == (8, 8)


def test_equal_halves_shrink_together() -> None:
    assert sizes(FromModel(modules.made(modules.Halves), (1, 3, 8, 8))) == {"left.width": ("8", "16")}


def test_what_the_code_or_an_unknown_function_fixes_is_named() -> None:
    space = FromModel(modules.made(modules.Written), (1, 3, 8, 8))
    assert list(sizes(space)) == ["a.width", "hidden.width"]
    reasons = dict(space.fixed)
    assert "view in the module itself divides them" in reasons["b: 16 channels"]
    assert "takes a part of them" in reasons["c: 16 channels"]
    assert "the module's code fails at another size" in reasons["d: 8 channels"]
    tokens = FromModel(modules.made(modules.Tokens), (1, 3, 8, 8))
    assert list(sizes(tokens)) == ["patch.width", "up.width", "attention.heads"]


@pytest.mark.parametrize(
    ("module", "example", "said"),
    [
        (nn.Conv2d(3, 8, 3), (1, 4, 8, 8), "does not run on an example"),
        (nn.Linear(4, 5), (1, 4), "nothing of the module can be searched"),
        (nn.LSTM(4, 5), (1, 4, 4), "must return one tensor"),
        (modules.Tied(), (6,), "got float32 [(]6,[)]; legal: a tensor"),
        ("resnet", (1, 6), "needs a torch.nn.Module"),
    ],
)
def test_modules_that_cannot_be_searched_are_refused(module: nn.Module, example: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FromModel(module, example)


def test_a_residual_block_that_does_nothing_is_not_searched() -> None:
    class Sum(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.inner(x)
            return y

    idle, pooled = Sum(nn.Sequential(nn.Identity())), Sum(nn.AvgPool2d(3, 1, 1))
    module = nn.Sequential(nn.Conv2d(1, 8, 3), idle, pooled, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    assert [d.name for d in FromModel(module, (1, 1, 8, 8)).decisions if "depth" in d.name] == ["2.depth"]


def test_another_number_of_classes_replaces_the_last_layer() -> None:
    module = modules.made(modules.Residual)
    space = FromModel(module, (1, 3, 8, 8), num_classes=7)
    assert (space.num_classes, module.head.out_features) == (7, 5)
    network = space.extract(space.supernet(), space.largest)
    assert network.head.weight.shape == (7, 16)
    assert torch.equal(network.stem.weight, module.stem.weight)


def test_the_explanation_tells_decisions_couplings_and_reasons() -> None:
    module = modules.made(modules.Grouped)
    space = FromModel(module, (1, 3, 8, 8))
    counts = [count_params(space.network(a)) for a in (space.smallest, space.middle, space.largest)]
    macs = count_space(space, "MACs")
    assert str(space.explain()).splitlines() == [
        "decisions: 1",
        "  a.width: 8 | 16; with b, c, d, head",
        "stays whole:",
        "  head: 5 channels: they are the output",
        f"{'':<12}{'smallest':>18}{'middle':>18}{'largest':>18}",
        f"{'parameters':<12}" + "".join(f"{count:>18,}" for count in counts),
        f"{'MACs':<12}" + "".join(f"{space.cost(a, macs):>18,.0f}" for a in drawn(space, 0)),
    ]
    assert counts[2] == count_params(module)


def test_rules_say_what_is_searched() -> None:
    module = modules.made(modules.Residual)
    everything = [
        {"match": "*", "width": True},
        {"match": "block.*", "type": "Conv2d", "width": {"ratios": [0.25, 1], "divisor": 4}, "kernel": [3]},
        {"match": "head", "frozen": True},
    ]
    assert sizes(FromModel(module, (1, 3, 8, 8), everything)) == {
        "block.expand.width": ("8", "32"),
        "block.depthwise.kernel": ("k3", "k5"),
        "block.squeeze.width": ("4", "8"),
    }
    assert sizes(FromModel(module, (1, 3, 8, 8), [{"match": "block", "depth": True}])) == {
        "block.depth": ("skip", "keep")
    }


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"match": "nothing.*", "width": True}, "matches no module"),
        ({"type": "Conv9d", "width": True}, "matches no module"),
        ({"width": {"ratios": [0.5, 2]}}, "less than or equal to 1"),
        ({"widht": True}, "keys: match, type, width, depth, kernel, resolution, choices, frozen"),
        ({"kernel": [0]}, "greater than 0"),
        ("width", "rule 1"),
    ],
)
def test_a_wrong_rule_is_one_clear_line(rule: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FromModel(modules.made(modules.Residual), (1, 3, 8, 8), [rule])  # type: ignore[list-item]
    assert "\n" not in str(caught.value)


def test_merged_patches_have_the_channels_of_their_parts_in_turn() -> None:
    space = own(modules.Merged)
    assert set(sizes(space)) == {"patch.width", "reduction.width"}
    module, network = modules.made(modules.Merged), space.extract(space.supernet(), space.smallest)
    kept = network.patch.out_channels
    assert kept < 16
    weight = module.norm.weight.view(4, 16)[:, :kept].flatten()
    assert torch.equal(network.norm.weight, weight)


def test_shapes_without_values_are_those_of_torch() -> None:
    weight, few = torch.rand(5, 8), torch.rand(4)
    x, y = torch.rand(2, 5, 8), torch.rand(2, 8, 3)
    calls = [
        lambda to: F.linear(to(x), to(weight), to(few[:1].expand(5))),
        lambda to: F.linear(to(x), to(weight), to(few)),
        lambda to: F.linear(to(y), to(weight)),
        lambda to: F.layer_norm(to(x), (5, 8), to(weight)),
        lambda to: F.layer_norm(to(x), (8,), to(few)),
        lambda to: F.layer_norm(to(x), [4]),
        lambda to: F.batch_norm(to(x), to(weight[:, 0]), to(weight[:, 1]), training=True),
        lambda to: F.batch_norm(to(y), to(few), to(few)),
    ]
    for call in calls:
        expected = found = None
        try:
            expected = call(lambda tensor: tensor).shape
        except RuntimeError as reason:
            expected = type(reason)
        try:
            with Shapes():
                found = call(lambda tensor: tensor.to("meta")).shape
        except RuntimeError as reason:
            found = type(reason)
        assert found == expected
