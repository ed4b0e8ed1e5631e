import itertools

import pytest
import torch
from torch import nn

from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.ops.mixed import Choice, MixedOp, plain
from lightning_nas.spaces.nasbench201.operations import OPTIONS
from lightning_nas.spaces.nasbench201.space import GROUP, NASBench201Space
from lightning_nas.testing.spaces import SpaceCase

RESNET = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
# parameters and multiply-adds at 32 px and 10 classes
GOLDEN = {
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|": (
        1_531_546,
        220_119_680,
    ),
    "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|": (
        241_306,
        31_376_000,
    ),
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|": (73_306, 7_783_040),
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|": (
        73_306,
        7_783_040,
    ),
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": (
        129_306,
        15_647_360,
    ),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|": (
        1_288_506,
        184_730_240,
    ),
    RESNET: (802_426, 113_951_360),
}
ALL_3X3 = next(iter(GOLDEN))


def small(**options: object) -> NASBench201Space:
    sizes = {"image_size": 8, "in_channels": 1, "channels": 4, "cells": (1, 2)}
    return NASBench201Space("nasbench201_small", **sizes | options)  # type: ignore[arg-type]


class TestNasBench201Small(SpaceCase):
    every_weight_trains = False  # a node from which every way on is "none"

    @pytest.fixture(params=[True, False], ids=["affine", "not affine"])
    def space(self, request: pytest.FixtureRequest) -> NASBench201Space:
        return small(affine=request.param)


@pytest.mark.parametrize("text", GOLDEN)
def test_networks_have_the_published_size(text: str) -> None:
    space = NASBench201Space()
    with torch.device("meta"):
        network = space.network(space.from_string(text))
    assert (count_params(network), count_macs(network, space.input_shape)) == GOLDEN[text]


@pytest.mark.parametrize(
    ("classes", "size", "golden"), [(100, 32, (1_537_396, 220_125_440)), (120, 16, (1_538_696, 55_037_440))]
)
def test_the_other_data_sets_have_their_own_sizes(classes: int, size: int, golden: tuple[int, int]) -> None:
    space = NASBench201Space(image_size=size, num_classes=classes)
    with torch.device("meta"):
        network = space.network(space.from_string(ALL_3X3))
    assert (count_params(network), count_macs(network, space.input_shape)) == golden


def test_all_5_to_the_6_strings_are_read_and_written() -> None:
    space, seen = NASBench201Space(), set()
    for options in itertools.product(OPTIONS, repeat=6):
        a, b, c, d, e, f = options
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        architecture = space.from_string(text)
        assert architecture.options == options
        assert space.to_string(architecture) == text
        seen.add(architecture)
    assert len(seen) == 15_625


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "legal is |op~0|+"),
        (RESNET.replace("~2", "~1"), "legal is |op~0|+"),
        (RESNET + "\n", "legal is |op~0|+"),
        (f"{RESNET}+{RESNET}" * 100, "legal is |op~0|+"),
        (RESNET.replace("avg_pool_3x3", "max_pool_3x3"), "edge_2_1 cannot be 'max_pool_3x3'; legal: none"),
    ],
)
def test_other_strings_are_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InvalidArchitecture) as caught:
        NASBench201Space().from_string(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_cell_is_the_sum_over_edges_that_the_string_says() -> None:
    space = small(cells=(1,))
    network = space.network(space.from_string(RESNET)).eval()
    x = torch.randn(2, 4, 8, 8)
    op = network.cells[0].edges
    one = op[0](x)
    two = op[1](x) + torch.nn.functional.avg_pool2d(one, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(network.cells[0](x), x + op[4](one) + two)


def test_the_mean_over_the_edge_of_an_image_counts_only_pixels() -> None:
    pool = small().operations()["avg_pool_3x3 4x8x8"].build()
    torch.testing.assert_close(pool(torch.ones(1, 4, 8, 8)), torch.ones(1, 4, 8, 8))


@pytest.mark.parametrize("size", [5, 7, 32, 33])
def test_any_image_size_ends_in_logits(size: int) -> None:
    space = small(image_size=size, cells=(1, 1, 1))
    network = space.network(space.from_string(RESNET))
    assert network(torch.randn(2, 1, size, size)).shape == (2, 10)
    assert space.stages[-1] == (16, -(-size // 4))


def test_affine_is_of_the_searched_operations_alone() -> None:
    space = NASBench201Space(affine=False)
    with torch.device("meta"):
        network = space.network(space.from_string(ALL_3X3))
    norms = [m for cell in network.cells if hasattr(cell, "edges") for m in cell.modules()]
    assert {m.affine for m in norms if isinstance(m, nn.BatchNorm2d)} == {False}
    assert 1_531_546 - count_params(network) == 6 * 5 * 2 * (16 + 32 + 64)


def test_more_cells_go_to_the_shortest_stages_and_the_decisions_stay() -> None:
    space = small(cells=(2, 1), num_classes=7, affine=False)
    deeper = space.deeper(2)
    assert (space.cells, deeper.cells) == ((2, 1), (3, 2))
    assert NASBench201Space().deeper(6).cells == (7, 7, 7)
    assert (deeper.name, deeper.decisions, deeper.input_shape) == (space.name, space.decisions, space.input_shape)
    assert (deeper.num_classes, deeper.channels, deeper.affine) == (7, 4, False)
    architecture = space.from_string(RESNET)
    assert count_params(deeper.network(architecture)) > count_params(space.network(architecture))


def test_each_cell_has_weights_of_its_own_and_edges_of_a_node_are_known() -> None:
    space, made = small(), list[Choice]()

    def mix(choice: Choice) -> MixedOp:
        made.append(choice)
        return plain(choice)

    space.supernet(mix)
    assert [(c.in_channels, c.out_channels) for c in made] == [(4, 4)] * 6 + [(8, 8)] * 12
    assert space.nodes(GROUP) == (1, 2, 2, 3, 3, 3)
    half = made[-1].operations(4, 4)["nor_conv_3x3"]  # partial channels
    assert half(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 8, 8)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least 4 pixels, got 3"):
        small(image_size=3)
    for cells in ((), (1, 0)):
        with pytest.raises(InputError, match=r"cells: got .*; legal: list of int >= 1 and <= 200, at least 1"):
            small(cells=cells)


def test_a_path_is_there_where_the_output_depends_on_the_input() -> None:
    """Against autograd, for drawn cells and for drawn cells with many "none"; and counted over the whole space."""
    space, draw = (
        NASBench201Space(image_size=8, in_channels=1, channels=8, cells=(1,)),
        torch.Generator().manual_seed(0),
    )
    cells = [space.sample(draw) for _ in range(30)]
    for cell in [space.sample(draw) for _ in range(60)]:
        kept = torch.rand(6, generator=draw).tolist()
        cells.append(
            space.validate({n: o if k < 0.5 else "none" for (n, o), k in zip(cell.choices, kept, strict=True)})
        )
    seen = set()
    for cell in cells:
        x = torch.randn(4, 1, 8, 8, generator=draw, requires_grad=True)
        [gradient] = torch.autograd.grad(space.network(cell).eval()(x).square().sum(), x, allow_unused=True)
        assert space.has_path(cell) == (gradient is not None and bool(gradient.abs().max() > 0)), str(cell)
        seen.add(space.has_path(cell))
    assert seen == {True, False}
