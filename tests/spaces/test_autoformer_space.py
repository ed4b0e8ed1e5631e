"""AutoFormer's space: the contract, the authors' numbers, sums written out, and sizes counted by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, InputError
from lightning_nas.latency.macs import count_params, count_space
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.transformers.autoformer import AutoFormerSpace
from lightning_nas.testing.spaces import SpaceCase

TINY: dict[str, Any] = {"image_size": 8, "in_channels": 1, "num_classes": 5, "embeds": (8, 12), "shared_embed": 16}
TINY |= {"heads": (1, 2), "ratios": (1.5, 2.0), "depths": (1, 2), "head_dim": 8, "patch": 4}
# heads of the authors' code have 64 channels, whatever the width
AUTHORS: dict[str, Any] = {"image_size": 16, "num_classes": 5, "embeds": (72, 96), "shared_embed": 128, "patch": 4}
AUTHORS |= {"heads": (1, 2), "ratios": (3.5, 4.0), "depths": (1, 2, 3), "head_dim": 64}
# microsoft/Cream 4a13c40, AutoFormer: logits of Vision_TransformerSuper(img_size=16, patch_size=4, embed_dim=128,
# depth=3, num_heads=2, mlp_ratio=4, qkv_bias, gp, relative_position, change_qkv, max_relative_position) with the
# weights of ``wave``, by max_relative_position and the options of a network
LOGITS = {
    (14, "e72 d1 h2 r3.5"): [0.057477, -0.263836, 0.342461, -0.239752, 0.350884],
    (14, "e96 d3 h1 r3.5 h2 r4 h2 r4"): [-0.394935, 0.269235, -0.265465, 0.436406, -0.386142],
    (14, "e72 d3 h2 r4 h1 r3.5 h1 r4"): [-0.359596, 0.192745, -0.148657, 0.280552, -0.19294],
    (2, "e96 d3 h1 r3.5 h2 r4 h2 r4"): [-0.437006, 0.309373, -0.303232, 0.471391, -0.417964],
}
# the same code at 224 px with the supernet of the paper and a subnet of its experiments/subnet: the first logits
PUBLISHED = {"autoformer_t": [-0.566733, 1.054958, -0.716575, -0.205153, 1.046814, -1.200977]}


class TestAutoFormer(SpaceCase):
    @pytest.fixture
    def space(self) -> AutoFormerSpace:
        return AutoFormerSpace(**TINY)


def wave(network: nn.Module) -> nn.Module:
    """Give a network weights that follow from their place; the weights of norms are near one."""
    with torch.no_grad():
        for number, (name, weight) in enumerate(network.named_parameters()):
            turned = torch.arange(weight.numel(), dtype=torch.float64) * (0.7 + 0.01 * number) + number
            weight.copy_(0.1 * turned.sin().reshape(weight.shape) + (1.0 if name.endswith("norm.weight") else 0.0))
    return network.eval()


def image(*shape: int) -> Tensor:
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float32) * 0.37).sin().reshape(shape)


def architecture_of(space: AutoFormerSpace, text: str) -> Architecture:
    width, depth, *layers = text.split()
    chosen = {"embed": width, "depth": depth}
    for number, option in enumerate(layers):
        chosen[f"layer_{number // 2 + 1:02d}.{('heads', 'ratio')[number % 2]}"] = option
    return space.validate(chosen)


@pytest.mark.parametrize(("distance", "text"), LOGITS)
def test_networks_compute_what_the_authors_do(distance: int, text: str) -> None:
    space = AutoFormerSpace(**AUTHORS, distance=distance)
    supernet, architecture = space.supernet(), architecture_of(space, text)
    wave(supernet)
    x, expected = image(2, 3, 16, 16), torch.tensor(LOGITS[distance, text])
    with torch.no_grad():
        active = supernet(x, space.gates(architecture))
        alone = space.extract(supernet, architecture).eval()(x)
    torch.testing.assert_close(active[0], expected, atol=1e-5, rtol=0)
    assert torch.equal(active, alone)


def test_the_published_network_computes_what_the_authors_do() -> None:
    space, architecture = zoo.space("autoformer_t", 1000), zoo.load("autoformer_t")
    assert isinstance(space, AutoFormerSpace)
    supernet = space.supernet()
    wave(supernet)
    with torch.no_grad():
        active = supernet(image(1, 3, 224, 224), space.gates(architecture))
        alone = space.extract(supernet, architecture).eval()(image(1, 3, 224, 224))
    torch.testing.assert_close(active[0, :6], torch.tensor(PUBLISHED["autoformer_t"]), atol=1e-5, rtol=0)
    assert torch.equal(active, alone)


@pytest.mark.parametrize(("size", "shared"), [("tiny", 11_669_224), ("small", 34_790_440), ("base", 80_160_360)])
def test_supernets_have_the_authors_number_of_parameters(size: Any, shared: int) -> None:
    with torch.device("meta"):
        assert count_params(AutoFormerSpace(size=size).supernet()) == shared


@pytest.mark.parametrize("letter", "tsb")
def test_published_networks_have_the_size_of_the_formula(letter: str) -> None:
    name = f"autoformer_{letter}"
    space, architecture = zoo.space(name, 1000), zoo.load(name)
    e, heads, ratios = 0, list[int](), list[float]()
    for decision, option in architecture.choices:
        if decision == "embed":
            e = int(option[1:])
        elif decision.endswith("heads"):
            heads.append(int(option[1:]))
        elif decision.endswith("ratio"):
            ratios.append(float(option[1:]))
    expected, macs = 768 * e + e + e + 197 * e + 2 * e + 1000 * e + 1000, 196 * 768 * e + 1000 * e
    for number, ratio in zip(heads, ratios, strict=True):
        h, f = number * 64, int(e * ratio)
        expected += 3 * e * h + 3 * h + h * e + e + e * f + f + f * e + e + 4 * e + 4 * 30 * 64
        macs += 197 * (4 * e * h + 2 * e * f)
    published = {"t": 5_867_944, "s": 22_891_432, "b": 53_691_688}[letter]
    with torch.device("meta"):
        assert count_params(zoo.network(name, num_classes=1000)) == expected == published
    assert space.cost(architecture, count_space(space, "params")) == published
    assert space.cost(architecture, count_space(space, "MACs")) == macs


def written_out(space: AutoFormerSpace, network: Any, x: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
    """Logits where every weight is the sum of all slices, padded with zeros and weighted by their gates."""
    sizes, full = space.sizes, {"embed": space.sizes.embeds[-1]}
    full["heads"], full["hidden"] = sizes.heads[-1] * 8, int(full["embed"] * sizes.ratios[-1])
    e_gates = gates["embed"][0]

    def mixed(weight: Tensor, axes: tuple[str | None, ...], layer: int) -> Tensor:
        total = weight.new_zeros([n if a is None else full[a] for n, a in zip(weight.shape, axes, strict=True)])
        choices = [range(len(sizes.embeds)), range(len(sizes.heads)), range(len(sizes.ratios))]
        named = {axis for axis in axes if axis}
        for e, h, r in itertools.product(*choices):
            lengths = {"embed": sizes.embeds[e], "heads": 8 * sizes.heads[h], "hidden": sizes.hidden(e, r)}
            if (h and "heads" not in named) or (r and "hidden" not in named) or (e and not named - {"heads"}):
                continue
            gate = torch.ones((), dtype=weight.dtype)
            gate = gate * e_gates[e] if named - {"heads"} else gate
            gate = gate * gates["heads"][layer, h] if "heads" in named else gate
            gate = gate * gates["ratio"][layer, r] if "hidden" in named else gate
            place = tuple(slice(None) if axis is None else slice(lengths[axis]) for axis in axes)
            total[place] = total[place] + gate * weight[place]
        return total

    def vector(weight: Tensor, axis: str, layer: int = 0) -> Tensor:
        return mixed(weight, (axis,), layer)

    def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], vector(module.weight, "embed"), vector(module.bias, "embed"))

    patches = network.patches
    weight = mixed(patches.projection.weight, ("embed", None, None, None), 0)
    tokens = F.conv2d(x, weight, vector(patches.projection.bias, "embed"), stride=4).flatten(2).transpose(1, 2)
    first = mixed(patches.token, (None, None, "embed"), 0).expand(len(x), -1, -1)
    x = torch.cat([first, tokens], 1) + mixed(patches.position, (None, None, "embed"), 0)
    total = torch.zeros_like(x)
    for number, layer in enumerate(network.layers):
        attention, mlp = layer.attention, layer.mlp
        y = norm(x, attention.norm)
        bias = y.new_zeros(3, full["heads"])
        for h, heads in enumerate(sizes.heads):
            bias[:, : 8 * heads] += gates["heads"][number, h] * attention.bias[: 24 * heads].reshape(3, -1)
        q, k, v = (
            (y @ mixed(m.weight, ("heads", "embed"), number).T + b).unflatten(-1, (-1, 8)).transpose(1, 2)
            for m, b in zip((attention.query, attention.key, attention.value), bias, strict=True)
        )
        keys, values = attention.keys(), attention.values()
        length, out = y.shape[1], torch.zeros_like(q)
        for i in range(length):
            scores = torch.stack([(q[:, :, i] * (k[:, :, j] + keys[i, j])).sum(-1) for j in range(length)], -1)
            shares = (scores / 8**0.5).softmax(-1)
            for j in range(length):
                out[:, :, i] += shares[..., j, None] * (v[:, :, j] + values[i, j])
        joined = out.transpose(1, 2).flatten(2) @ mixed(attention.out.weight, ("embed", "heads"), number).T
        x = x + joined + vector(attention.out.bias, "embed")
        y = norm(x, mlp.norm) @ mixed(mlp.expand.weight, ("hidden", "embed"), number).T
        y = F.gelu(y + vector(mlp.expand.bias, "hidden", number))
        y = y @ mixed(mlp.shrink.weight, ("embed", "hidden"), number).T
        x = x + y + vector(mlp.shrink.bias, "embed")
        total = total + gates["depth"][0, number] * x
    y = norm(total, network.classifier.norm)[:, 1:].mean(1)
    logits: Tensor = y @ mixed(network.classifier.linear.weight, (None, "embed"), 0).T + network.classifier.linear.bias
    return logits


def test_soft_gates_mix_slices_padded_with_zeros() -> None:
    space = AutoFormerSpace(**TINY)
    supernet = space.supernet().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in supernet.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    drawn = {
        group: torch.randn(shape, generator=generator, dtype=torch.float64).softmax(-1).requires_grad_()
        for group, shape in space.gate_shapes.items()
    }
    x = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    wanted = [*drawn.values(), *supernet.parameters()]
    expected = written_out(space, supernet.network, x, drawn)
    slopes = torch.autograd.grad(expected.square().sum(), wanted)
    found = supernet(x, Gates.soft(drawn))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    for mine, theirs in zip(torch.autograd.grad(found.square().sum(), wanted), slopes, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)


def test_slices_that_are_not_drawn_get_no_gradient() -> None:
    """Entries of no larger index than those of the extracted network have gradients: exactly its own."""
    space = AutoFormerSpace(**TINY)
    supernet, architecture = space.supernet(), architecture_of(space, "e8 d1 h1 r1.5")
    network, x = space.extract(supernet, architecture), torch.randn(4, 1, 8, 8)
    network(x).square().sum().backward()
    supernet(x, space.gates(architecture)).square().sum().backward()
    own = dict(network.named_parameters())
    for name, weight in supernet.network.named_parameters():
        expected = torch.zeros_like(weight)
        if name in own:
            expected[tuple(map(slice, own[name].shape))] = own[name].grad
        elif weight.grad is None:
            continue  # of a layer that does not run
        assert torch.equal(weight.grad, expected), name


@pytest.mark.parametrize("scaled", [False, True])
def test_fresh_weights_have_the_deviation_that_is_asked_for(scaled: bool) -> None:
    """The authors' 0.02; or 1 / sqrt(inputs), and for positions a normal deviation of 1 that is cut at 2: 0.88."""
    torch.manual_seed(0)
    network = AutoFormerSpace(**AUTHORS, scaled=scaled).supernet().network
    assert float(network.patches.position.detach().std()) == pytest.approx(0.88 if scaled else 0.02, rel=0.1)
    for name in ("attention.query", "attention.out", "mlp.expand", "mlp.shrink"):
        weight = network.layers[0].get_submodule(name).weight.detach()
        expected = weight.shape[1] ** -0.5 if scaled else 0.02
        assert float(weight.std()) == pytest.approx(expected, rel=0.1)


def test_slices_are_views() -> None:
    space = AutoFormerSpace(**TINY)
    supernet = space.supernet()
    state = supernet.state_of(space._shape(architecture_of(space, "e8 d2 h1 r1.5 h2 r2")))
    shared = dict(supernet.network.named_parameters())
    assert all(v.untyped_storage().data_ptr() == shared[k].untyped_storage().data_ptr() for k, v in state.items())


def test_distances_are_those_of_rows_and_columns() -> None:
    """By hand: on a grid of 2 rows and 3 columns, clipped at 1; entry 0 is that of the class token."""
    space = AutoFormerSpace(**TINY | {"image_size": (8, 12)}, distance=1)
    positions = space.supernet().network.layers[0].attention.keys
    places = [(row, column) for row in range(2) for column in range(3)]
    for index, axis in ((positions.row, 0), (positions.column, 1)):
        away = [[0, *(max(-1, min(1, other[axis] - one[axis])) + 2 for other in places)] for one in places]
        assert index.tolist() == [[0] * 7, *away]


@pytest.mark.parametrize(
    ("pixels", "rows"),
    [((8, 8), (4, 4)), ((14, 14), (7, 7)), ((28, 28), (4, 4)), ((32, 32), (4, 4))],
)
def test_small_images_are_divided_into_four_to_eight_patches(pixels: Any, rows: Any) -> None:
    space = AutoFormerSpace(input_shape=(1, *pixels), num_classes=3)
    assert space.frame.grid == rows
    assert (space.sizes.embeds, space.frame.head_dim, space.sizes.depths) == ((40, 48, 56), 8, (2, 3, 4))


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_spaces_are_those_of_the_paper(size: Any) -> None:
    """Table 1 of arXiv:2107.00651 and the authors' experiments/supernet."""
    paper = {
        "tiny": ((192, 216, 240), (3, 4), (3.5, 4), (12, 13, 14)),
        "small": ((320, 384, 448), (5, 6, 7), (3, 3.5, 4), (12, 13, 14)),
        "base": ((528, 576, 624), (9, 10), (3, 3.5, 4), (14, 15, 16)),
    }
    sizes = AutoFormerSpace(size=size).sizes
    assert (sizes.embeds, sizes.heads, sizes.ratios, sizes.depths) == paper[size]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"embeds": (12, 8)}, r"embeds is \[12, 8\]; legal: .* ascending"),
        ({"depths": (2, 2)}, r"depths is \[2, 2\]; legal: "),
        ({"shared_embed": 10}, r"shared_embed is 10; legal: at least .* 12"),
        ({"ratios": (0.01, 1.0)}, r"ratios has 0.01; legal: "),
        ({"patch": 9}, "needs images of at least a patch of 9 pixels, got 8"),
        ({"depths": (1, 20)}, r"4\^19 combinations .*; legal: up to 20,000"),
    ],
)
def test_sizes_that_make_no_space_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoFormerSpace(**TINY | wrong)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"AutoFormerSpace: heads: got .*; legal: "):
        AutoFormerSpace(**TINY | {"heads": (0, 1)})
    with pytest.raises(ConfigError, match=r"AutoFormerSpace: size: got .*; legal: "):
        AutoFormerSpace(**TINY, size="huge")
