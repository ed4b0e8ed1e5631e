"""DPC's space: the contract, the numbers of the paper and of the authors' code, and the networks' sizes."""

from math import factorial, prod

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_nas import zoo
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_macs
from lightning_nas.spaces.dpc.networks import Branch, PyramidPooling, atrous, backbone
from lightning_nas.spaces.dpc.space import DPCSpace
from lightning_nas.testing.spaces import SpaceCase

CITYSCAPES = (65, 129)  # features of 1025 x 2049 pixels at output stride 16
POSITIONS = 8_385


class TestDPCSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> DPCSpace:
        return DPCSpace(input_shape=(1, 8, 8), num_classes=5)


@pytest.fixture(scope="module")
def space() -> DPCSpace:
    return DPCSpace(image_size=(1025, 2049))


def convolutions(module: nn.Module) -> int:
    """Weights of all convolutions, as the paper counts parameters."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Conv2d))


def built(branches: list[Branch], channels: int) -> nn.ModuleList:
    with torch.device("meta"):
        return nn.ModuleList(branch.build(256 if branch.source else channels, 256) for branch in branches)


def test_the_space_has_the_papers_size(space: DPCSpace) -> None:
    assert len(space.decisions[0].options) == 81
    assert prod(len(decision.options) for decision in space.decisions) == factorial(5) * 81**5 == 418_414_128_120


@pytest.mark.parametrize(("channels", "weights"), [(2048, 814_080), (320, 356_160)])
def test_the_best_cell_has_the_published_parameters(space: DPCSpace, channels: int, weights: int) -> None:
    """.81M with Xception and .36M with MobileNet-v2 in table 1."""
    cell = built(space.chosen(zoo.load("dpc_cityscapes")), channels)
    assert convolutions(cell) == weights
    assert [convolutions(branch) for branch in cell[1:]] == [67_840] * 4


@pytest.mark.parametrize(("channels", "adds", "published"), [(2048, 2_152_448, 18.12e9), (320, 336_320, 2.82e9)])
def test_aspp_has_the_published_multiply_adds(space: DPCSpace, channels: int, adds: int, published: float) -> None:
    """A 1x1 and three separable convolutions at every position; global pooling is at one."""
    branches = space.chosen(space.aspp())
    assert [branch.operation for branch in branches[1:4]] == ["atrous_6_6", "atrous_12_12", "atrous_18_18"]
    assert convolutions(built(branches[:4], channels)) == adds
    assert adds * POSITIONS == pytest.approx(published, rel=0.005)


def test_the_baselines_of_the_zoo_are_those_of_the_spaces(space: DPCSpace) -> None:
    assert zoo.load("aspp") == space.aspp()
    small = DPCSpace(input_shape=(1, 32, 32), num_classes=10)
    assert zoo.load("aspp_small") == small.aspp()
    assert zoo.space("aspp_small").digest != small.digest  # images of the zoo have three channels
    assert zoo.space("aspp_small").decisions == small.decisions


@pytest.mark.parametrize(("channels", "one", "published"), [(2048, 1_591_296, 1.59e6), (320, 248_640, 0.25e6)])
def test_the_published_parameters_of_aspp_are_another_sum(channels: int, one: int, published: float) -> None:
    """A 1x1, a pooled 1x1 and a single separable convolution make what table 1 prints."""
    branches = [Branch("conv_1x1", 0), Branch("pool_1_1", 0), Branch("atrous_6_6", 0)]
    assert convolutions(built(branches, channels)) == one == pytest.approx(published, rel=0.01)


def test_multiply_adds_of_cells_are_those_of_table_1(space: DPCSpace) -> None:
    with torch.device("meta"):
        table = {key: count_macs(made.build(), made.input_shape) for key, made in space.operations().items()}
    fixed = sum(count for key, count in table.items() if not key.startswith(("conv", "atrous", "pool")))
    for cell, published in ((zoo.load("dpc_cityscapes"), 3.00e9), (space.aspp(), 2.82e9)):
        with torch.device("meta"):
            counted = count_macs(space.cell(cell), (320, *CITYSCAPES))
        assert counted == pytest.approx(published, rel=0.006)
        assert space.cost(cell, table) - fixed == counted


@pytest.mark.parametrize(("side", "grid", "kernel"), [(33, 4, 9), (33, 2, 17), (33, 8, 5), (17, 1, 17), (33, 1, 33)])
def test_pooling_windows_are_those_of_the_authors_tests(side: int, grid: int, kernel: int) -> None:
    """Crop 513 at output stride 16 has features of 33 x 33, crop 257 of 17 x 17."""
    pool, x = PyramidPooling(2, 3, (grid, grid)).eval(), torch.randn(1, 2, side, side)
    pooled = nn.AvgPool2d(kernel, 1)(x)
    wanted = F.interpolate(pool.pointwise(pooled), (side, side), mode="bilinear", align_corners=True)
    torch.testing.assert_close(pool(x), wanted)
    assert pooled.shape[-1] == side - kernel + 1


def test_global_pooling_gives_each_position_the_mean() -> None:
    pool, x = PyramidPooling(2, 3, (1, 1)).eval(), torch.randn(2, 2, 5, 7)
    torch.testing.assert_close(pool(x), pool.pointwise(x.mean((2, 3), keepdim=True)).expand(-1, -1, 5, 7))


def test_a_convolution_with_holes_is_that_of_a_kernel_with_zeros() -> None:
    layer, x = atrous(2, 3, (2, 3)).eval(), torch.randn(1, 2, 9, 11)
    wide = torch.zeros(2, 1, 5, 7)
    wide[:, :, ::2, ::3] = layer.depthwise.weight
    torch.testing.assert_close(layer.depthwise(x), F.conv2d(x, wide, padding=(2, 3), groups=2))


@pytest.mark.parametrize(("stride", "rate"), [(16, (18, 15)), (8, (36, 30))])
def test_rates_are_doubled_at_output_stride_8(stride: int, rate: tuple[int, int]) -> None:
    space = DPCSpace(image_size=65, output_stride=stride)
    with torch.device("meta"):
        network = space.network(zoo.load("dpc_cityscapes"))
        assert network.cell.branches[1].depthwise.dilation == network.cell.branches[1].depthwise.padding == rate
        assert network.cell(torch.zeros(1, *space.features_shape)).shape == (1, 5 * 256, *space.features_shape[1:])
        assert network.backbone(torch.zeros(1, 3, 65, 65)).shape == (1, *space.features_shape)
        assert network(torch.zeros(1, 3, 65, 65)).shape == (1, 19, *space.features_shape[1:])
    assert space.features_shape == (320, -(-65 // stride), -(-65 // stride))


@pytest.mark.parametrize("stride", [8, 16])
def test_holes_in_the_backbone_keep_the_receptive_field(stride: int) -> None:
    """At every 32nd pixel, away from the border, the features are those of MobileNet-v2 itself (output stride 32)."""
    torch.manual_seed(0)
    dense = backbone("mobilenet_v2", 3, 256, stride).eval()
    strided = nn.Sequential(*list(torch_mobilenet())[:-1]).eval()
    strided.load_state_dict(dense.state_dict())
    x = torch.randn(1, 3, 513, 513)
    with torch.no_grad():
        torch.testing.assert_close(
            dense(x)[..., :: 32 // stride, :: 32 // stride][..., 8, 8], strided(x)[..., 8, 8], rtol=1e-4, atol=1e-5
        )


def torch_mobilenet() -> nn.Sequential:
    from torchvision.models import mobilenet_v2

    return mobilenet_v2().features


def test_grey_images_have_a_stem_of_their_own() -> None:
    with torch.device("meta"):
        assert backbone("mobilenet_v2", 1, 256, 16)(torch.zeros(1, 1, 33, 33)).shape == (1, 320, 3, 3)


@pytest.mark.parametrize("size", [(96, 128), (24, 40)])
def test_rectangles_have_features_of_both_sides(size: tuple[int, int]) -> None:
    space = DPCSpace("dpc_small", image_size=size, num_classes=12, branches=3, rates=[1, 2], grids=[1], channels=8,
                     backbone="small", output_stride=4)  # fmt: skip
    network = space.network(space.sample(torch.Generator().manual_seed(0)))
    assert network(torch.zeros(2, 3, *size)).shape == (2, 12, size[0] // 4, size[1] // 4)


def test_cells_survive_a_round_trip_through_branches() -> None:
    space = DPCSpace(input_shape=(1, 32, 32), num_classes=5)
    cell = space.sample(torch.Generator().manual_seed(3))
    assert space.of_branches(space.chosen(cell)) == cell
    with pytest.raises(InvalidArchitecture, match="branch_2_from cannot be 'branch_2'"):
        space.of_branches([Branch("conv_1x1", 0), Branch("conv_1x1", 2)])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rates": [3, 1]}, r"increasing rates from 1 on, got \[3, 1\]"),
        ({"grids": []}, "increasing grids"),
        ({"output_stride": 4}, "output_stride=4 of mobilenet_v2; legal: 8, 16"),
    ],
)
def test_sizes_that_make_no_space_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        DPCSpace(**wrong)
    with pytest.raises(InputError, match="has no pyramid"):
        DPCSpace(branches=2).aspp()
