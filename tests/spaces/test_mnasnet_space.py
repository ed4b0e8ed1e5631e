import math
import re

import pytest
import torch
from timms import computes_what_timms_does
from torch import nn

from lightning_nas import zoo
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.chains.mnasnet import MnasNetSpace, rounded
from lightning_nas.spaces.chains.mnasnet_operations import LayerKind, MnasLayer
from lightning_nas.testing.spaces import SpaceCase

# the authors' strings: repeats, kernel, stride, expansion, input and output filters, squeeze and excitation
A1 = """r1_k3_s11_e1_i32_o16_noskip r2_k3_s22_e6_i16_o24 r3_k5_s22_e3_i24_o40_se0.25 r4_k3_s22_e6_i40_o80
    r2_k3_s11_e6_i80_o112_se0.25 r3_k5_s22_e6_i112_o160_se0.25 r1_k3_s11_e6_i160_o320"""
B1 = """r1_k3_s11_e1_i32_o16_noskip r3_k3_s22_e3_i16_o24 r3_k5_s22_e3_i24_o40 r3_k5_s22_e6_i40_o80
    r2_k3_s11_e6_i80_o96 r4_k5_s22_e6_i96_o192 r1_k3_s11_e6_i192_o320_noskip"""


def small(**options: object) -> MnasNetSpace:
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 3, "stem": (8, 1), "first": 8, "last": 8, "mix": 16}
    return MnasNetSpace("small", **sizes | {"blocks": [(16, 2, 2), (16, 2, 1)]} | options)  # type: ignore[arg-type]


class TestMnasNet(SpaceCase):
    @pytest.fixture
    def space(self) -> MnasNetSpace:
        return small()


def test_the_papers_space_has_as_many_architectures() -> None:
    assert math.prod(len(d.options) for d in MnasNetSpace().decisions) == 432**5 == 15_045_919_506_432


@pytest.mark.parametrize(("name", "strings"), [("mnasnet_a1", A1), ("mnasnet_b1", B1)])
def test_published_networks_are_what_the_authors_strings_say(name: str, strings: str) -> None:
    expected = []
    for repeats, kernel, stride, expansion, width, out, ratio in re.findall(
        r"r(\d)_k(\d)_s(\d)\d_e(\d)_i(\d+)_o(\d+)(?:_se(0.25))?", strings
    ):
        for i in range(int(repeats)):
            shape = (int(out if i else width), int(out), 1 if i else int(stride))
            expected.append((*shape, int(kernel), int(expansion), float(ratio or 0)))
    expansions = {"sep_conv": 1, "mbconv3": 3, "mbconv6": 6}
    layers = zoo.space(name).layers(zoo.load(name))
    assert expected == [(*s[:3], k.kernel, expansions[k.op], k.ratio) for s, k in layers]
    network = zoo.network(name)
    skips = [block.skip is not None for block in network.blocks]
    assert skips == [c == o and s == 1 for c, o, s, *_ in expected]


def test_mnasnet_a1_computes_what_timms_does() -> None:
    timm = pytest.importorskip("timm")
    computes_what_timms_does("mnasnet_a1", timm.create_model("semnasnet_100"))


@pytest.mark.parametrize(
    ("op", "ratio", "params"),
    [
        ("conv", 0.0, 25 * 16 * 16 + 2 * 16),
        ("sep_conv", 0.0, 25 * 16 + 16 * 16 + 4 * 16),
        ("mbconv3", 0.25, 16 * 48 + 25 * 48 + 48 * 16 + 4 * 48 + 2 * 16 + (48 * 4 + 4) + (4 * 48 + 48)),
        ("conv", 0.25, 25 * 16 * 16 + 2 * 16 + (16 * 4 + 4) + (4 * 16 + 16)),
    ],
)
def test_squeeze_and_excitation_is_as_wide_as_the_layers_input_says(op: str, ratio: float, params: int) -> None:
    assert count_params(MnasLayer(16, 16, 1, LayerKind(op, 5, ratio, "none"))) == params


@pytest.mark.parametrize(("shape", "kinds"), [((8, 8, 1), "010"), ((8, 8, 2), "001"), ((8, 16, 1), "000")])
def test_a_skip_stands_where_it_can(shape: tuple[int, int, int], kinds: str) -> None:
    x = torch.randn(2, 8, 5, 5)
    for skip, there in zip(("none", "identity", "pool"), kinds, strict=True):
        layer = MnasLayer(*shape, LayerKind("mbconv3", 3, 0, skip)).eval()
        beside = (layer(x) - layer.op(x)).detach()
        if skip == "pool" and shape[0] == shape[1]:
            torch.testing.assert_close(
                beside, nn.functional.avg_pool2d(x, 3, shape[2], 1, count_include_pad=False), atol=1e-5, rtol=1e-5
            )
        elif there == "1":
            torch.testing.assert_close(beside, x, atol=1e-5, rtol=1e-5)
        else:
            assert not beside.any()


def test_architectures_that_are_one_network_have_one_canonical_form() -> None:
    space = small(blocks=[(24, 2, 2), (24, 2, 1)])  # three quarters of 24 are rounded to 24 again
    choices = {d.name: d.options[0] for d in space.decisions}
    wanted = space.validate(choices)
    for change in ({"block_1_skip": "pool"}, {"block_1_filters": "1.0"}, {"block_2_filters": "1.0"}):
        assert space.canonical(space.validate(choices | change)) == wanted
    for change in ({"block_2_skip": "identity"}, {"block_2_skip": "pool"}, {"block_1_filters": "1.25"}):
        same = space.validate(choices | change)
        assert space.canonical(same) == same


def test_channels_are_rounded_as_in_mobilenet() -> None:
    timm = pytest.importorskip("timm")
    make_divisible = timm.layers.make_divisible
    assert [rounded(c / 4) for c in range(1, 2000)] == [make_divisible(c / 4, 8) for c in range(1, 2000)]


def test_all_layers_of_a_block_are_alike_but_for_the_first_ones_stride() -> None:
    space = MnasNetSpace()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        architecture = space.sample(generator)
        layers = space.layers(architecture)[1:-1]
        for i, (channels, depth, stride) in enumerate(space.blocks, start=1):
            count = depth + int(architecture[f"block_{i}_layers"])
            block, layers = layers[:count], layers[count:]
            assert {layer.kind for layer in block} == {block[0].kind}
            width = rounded(channels * float(architecture[f"block_{i}_filters"]))
            assert [layer.shape[1:3] for layer in block] == [(width, stride), *[(width, 1)] * (count - 1)]
        assert not layers


def test_costs_of_the_papers_size_are_exact_and_all_in_its_table() -> None:
    space = MnasNetSpace()
    architecture = space.sample(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        operations = space.operations()
        macs = sum(count_macs(operations[k].build(), operations[k].input_shape) for k in space.cost_keys(architecture))
        assert macs == count_macs(space.network(architecture), space.input_shape)
    generator = torch.Generator().manual_seed(1)
    used = {key for _ in range(300) for key in space.cost_keys(space.sample(generator))}
    assert used <= operations.keys()


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8 pixels, got 7"):
        small(image_size=7)
    with pytest.raises(InputError, match=r"at least 2 layers, got \[16, 1, 2\]"):
        small(blocks=[(16, 1, 2)])
