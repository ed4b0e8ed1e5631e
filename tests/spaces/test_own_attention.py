"""Heads of attention as decisions: against the module itself, and against slices computed by hand."""

from __future__ import annotations

import functools

import pytest
import torch
import torchvision
from helpers import attention_modules as modules
from torch import nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

import lightning_nas as ln
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.spaces.own.built import FromBuilder
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.testing.spaces import SpaceCase

SHAPE = (1, modules.LENGTH, modules.SIDE)
VISION = {
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5),
    "swin": lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5),
    "swin_v2": lambda: torchvision.models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    ),
}


@functools.cache
def space_of(name: str) -> FromModel:
    return FromModel(modules.made(name), SHAPE)


def sizes(space: FromModel) -> dict[str, tuple[str, ...]]:
    return {decision.name: decision.options for decision in space.decisions}


def check(module: nn.Module, space: FromModel, draws: int) -> None:
    """The largest is the module, extracted networks are the active ones, and their sizes are as predicted."""
    supernet, x = space.supernet().eval(), space.example(2, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(1)
    params, macs = count_space(space, "params"), count_space(space, "MACs")
    largest = space.extract(supernet, space.largest).eval()
    assert list(largest.state_dict()) == list(module.state_dict())
    assert repr(largest) == repr(module)
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient):
            expected = module(x)
            assert torch.equal(supernet(x, space.gates(space.largest)), expected)
            assert torch.equal(largest(x), expected)
            for architecture in [space.smallest, space.middle, *(space.sample(generator) for _ in range(draws))]:
                alone = space.extract(supernet, architecture).eval()
                assert torch.equal(supernet(x, space.gates(architecture)), alone(x))
                assert space.cost(architecture, params) == count_params(alone)
                assert space.cost(architecture, macs) == count_macs(alone, space.input_shape)


class TestHeads(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return space_of("fused-sdpa")


class TestTorchsHeads(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return space_of("torch-second")


@pytest.mark.parametrize("name", modules.NETWORKS)
def test_heads_are_cut_exactly(name: str) -> None:
    space = space_of(name)
    heads = [options for decision, options in sizes(space).items() if decision.endswith("heads")]
    assert heads == [("2", "3", "4")] * (2 if name.startswith("encoder") else 1)
    assert [what for what, _ in space.fixed if "layers.0: leaving" not in what] == ["head: 5 channels"]
    check(modules.made(name), space, 6)


@pytest.mark.parametrize("name", VISION)
def test_torchvisions_transformers_are_cut_exactly(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VISION[name]().eval()
    space = FromModel(module, (1, 3, 32, 32))
    assert not [what for what, _ in space.fixed if "channels" in what and "5 channels" not in what]
    assert any(decision.endswith("heads") for decision in sizes(space))
    check(module, space, 2)


def test_fused_heads_by_hand() -> None:
    module, space = modules.made("fused-products"), space_of("fused-products")
    assert sizes(space) == {
        "embed.width": ("16", "24", "32"),
        "attention.qkv.heads": ("2", "3", "4"),
        "up.width": ("32", "48", "64"),
    }
    chosen = {"embed.width": "24", "attention.qkv.heads": "3", "up.width": "48"}
    network = space.extract(space.supernet(), space.validate(chosen)).eval()
    assert (network.attention.num_heads, network.attention.head_dim, network.attention.inner) == (3, 8, 24)
    w, x = module.state_dict(), space.example(2, torch.Generator().manual_seed(3))
    e = F.linear(x, w["embed.weight"][:24], w["embed.bias"][:24])
    y = F.layer_norm(e, (24,), w["norm.weight"][:24], w["norm.bias"][:24])
    rows = w["attention.qkv.weight"].view(3, 4, 8, 32)[:, :3, :, :24].flatten(0, 2)
    qkv = F.linear(y, rows, w["attention.qkv.bias"].view(3, 4, 8)[:, :3].flatten()).view(2, 7, 3, 3, 8)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, scale=8**-0.5).transpose(1, 2).flatten(2)
    e = e + F.linear(y, w["attention.proj.weight"][:24, :24], w["attention.proj.bias"][:24])
    e = e + F.linear(F.gelu(F.linear(e, w["up.weight"][:48, :24], w["up.bias"][:48])), w["down.weight"][:24, :48],
                     w["down.bias"][:24])  # fmt: skip
    torch.testing.assert_close(network(x), F.linear(e.mean(1), w["head.weight"][:, :24], w["head.bias"]))


def test_queries_that_share_keys_go_with_them() -> None:
    space = space_of("shared-repeat")
    chosen = {**{name: options[-1] for name, options in sizes(space).items()}, "attention.k.heads": "3"}
    network = space.extract(space.supernet(), space.validate(chosen))
    attention = network.attention
    assert (attention.n_heads, attention.n_kv_heads, attention.head_dim) == (6, 3, 4)
    assert (attention.q.out_features, attention.k.out_features, attention.o.in_features) == (24, 12, 24)


def test_fewer_heads_of_torchs_attention_are_torchs_attention_of_them() -> None:
    """A whole attention of the kept heads in a narrower width, against torch's own."""
    space = space_of("torch-first")
    chosen = {name: options[-1] for name, options in sizes(space).items()} | {"attention.attention.heads": "2"}
    network = space.extract(space.supernet(), space.validate(chosen)).eval()
    fewer, whole = network.attention.attention, modules.made("torch-first").attention.attention
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # heads that are zeroed add nothing but the bias of the output
        whole.out_proj.weight[:, 16:] = 0
        expected, _ = whole(x, x, x)
        found, _ = fewer(x, x, x)
    torch.testing.assert_close(found, expected)


def test_heads_and_their_channels_are_one_decision_where_needed() -> None:
    space = space_of("wide-split")
    assert sizes(space) == {"attention.heads": ("2", "3", "4"), "up.width": ("32", "48", "64")}
    network = space.extract(space.supernet(), space.smallest)
    assert (network.embed.out_features, network.attention.n_head, network.attention.n_embd) == (16, 2, 16)


def test_code_that_fixes_the_heads_keeps_them_whole_and_is_named() -> None:
    space = FromModel(modules.Network(modules.Written()).eval(), SHAPE)
    assert sizes(space) == {"embed.width": ("16", "24", "32"), "up.width": ("32", "48", "64")}
    assert "reshape in attention divides them" in dict(space.fixed)["attention.qkv: 96 channels"]
    check(space.extract(space.supernet(), space.largest).eval(), space, 2)


def test_heads_can_be_a_choice_in_the_code() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, own = modules.Chosen().eval(), modules.Network(modules.Fused("sdpa", ln.choice.Value([1, 4]))).eval()
    space = FromModel(module, SHAPE)
    assert sizes(space) == {"width": ("16", "32"), "heads": ("1", "2", "4")}
    check(space.extract(space.supernet(), space.largest).eval(), space, 6)
    layer = space.extract(space.supernet(), space.smallest).layer
    assert (layer.self_attn.num_heads, layer.linear1.out_features) == (1, 32)
    assert sizes(FromModel(own, SHAPE)) == {"attention.num_heads": ("1", "4")}


def test_a_width_that_would_change_the_size_of_heads_is_refused() -> None:
    module = nn.Sequential(modules.Fused("sdpa"), nn.Linear(modules.WIDTH, 5))
    module[0].qkv = nn.Linear(modules.WIDTH, ln.choice.Value([60, 96]))
    with pytest.raises(InputError, match="legal: multiples of 24, since heads of attention keep their size"):
        FromModel(nn.Sequential(module, nn.Flatten(), nn.Linear(35, 5)), (1, modules.LENGTH, modules.WIDTH))


def test_networks_of_a_function_have_elastic_heads_too() -> None:
    sizes_of = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    build = functools.partial(torchvision.models.VisionTransformer, **sizes_of)
    space = FromBuilder(build, input_shape=(1, 8, 8), num_classes=4)
    supernet, x = space.supernet().eval(), space.example(2, torch.Generator().manual_seed(2))
    assert torch.equal(supernet(x, space.gates(space.smallest)), space.extract(supernet, space.smallest).eval()(x))
    assert "encoder.layers.encoder_layer_0.self_attention.heads" in sizes(space)


@pytest.mark.parametrize("public", [False, True])
def test_fresh_weights_of_any_heads_are_drawn_as_torch_draws_them(
    public: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Lightning's demos were imported, which give torch's class a public name for its private method."""
    torchs = nn.MultiheadAttention
    monkeypatch.delattr(torchs, "reset_parameters", raising=False)
    if public:
        monkeypatch.setattr(torchs, "reset_parameters", torchs._reset_parameters, raising=False)
    space = FromModel(
        nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Flatten(1), nn.Linear(80, 3)),
        (1, 5, 16),
        [{"match": "*", "width": True}],
    )
    for architecture in (space.smallest, space.largest):
        torch.manual_seed(0)
        attention = space.network(architecture)[0].self_attn
        torch.manual_seed(0)
        expected = torch.nn.init.xavier_uniform_(torch.empty_like(attention.in_proj_weight))
        assert torch.equal(attention.in_proj_weight, expected)
        assert not attention.in_proj_bias.any()
