import math

import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.base import Gated
from lightning_nas.spaces.chains.spos_shufflenet import ShuffleNetSpace
from lightning_nas.testing.spaces import SpaceCase

TEN = tuple(i / 5 for i in range(1, 11))


def small(*channels: float, affine: bool = False, dropout: float = 0.0) -> ShuffleNetSpace:
    shape = {"stem": (8, 1), "stages": [(8, 1, 1), (16, 2, 2)], "mix": 16}
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 5}
    return ShuffleNetSpace("small", **sizes, **shape, dropout=dropout, channels=channels, affine=affine)


class TestBlocks(SpaceCase):
    @pytest.fixture
    def space(self) -> ShuffleNetSpace:
        return small(1.0, affine=True)


class TestBlocksAndChannels(SpaceCase):
    @pytest.fixture
    def space(self) -> ShuffleNetSpace:
        return small(2.0, 0.4, 1.0)


def test_the_papers_space_has_its_size() -> None:
    space = ShuffleNetSpace()
    assert math.prod(len(d.options) for d in space.decisions) == 1_099_511_627_776
    assert [(b.out_channels, b.stride, b.out_size) for b in space.blocks if b.stride == 2] == [
        *((64, 2, 56), (160, 2, 28), (320, 2, 14), (640, 2, 7))
    ]
    assert len(space.blocks) == 20


def test_channels_are_decisions_of_their_own_and_one_gate_with_the_block() -> None:
    space = ShuffleNetSpace(channels=TEN)
    assert [d.name for d in space.decisions[:4]] == ["block_01", "width_01", "block_02", "width_02"]
    assert math.prod(len(d.options) for d in space.decisions) == 40**20
    assert space.gate_shapes == {"blocks": (20, 40)}


def test_the_widths_of_the_paper_are_factors_of_half_the_output() -> None:
    with torch.device("meta"):
        block = ShuffleNetSpace(channels=TEN).blocks[4]  # 64 -> 160, stride 2
        widths = [block.build(f"k3_w{20 * i}").main[0].conv.out_channels for i in range(1, 11)]
    assert widths == [16, 32, 48, 64, 80, 96, 112, 128, 144, 160]


@pytest.mark.parametrize("option", ["k3", "k7", "xception"])
def test_the_base_width_is_the_network_without_channel_search(option: str) -> None:
    with torch.device("meta"):
        searched, fixed = (
            space.network(space.validate({d.name: option if option in d.options else "w100" for d in space.decisions}))
            for space in (ShuffleNetSpace(channels=TEN), ShuffleNetSpace())
        )
    assert [tuple(p.shape) for p in searched.parameters()] == [tuple(p.shape) for p in fixed.parameters()]


def test_the_supernet_holds_the_widest_weights_and_no_more() -> None:
    with torch.device("meta"):
        sliced = ShuffleNetSpace(channels=TEN).supernet()
        widest = ShuffleNetSpace(channels=(2.0,)).supernet()
    assert count_params(sliced) == count_params(widest)


def test_a_drawn_path_computes_its_own_slices_and_no_more() -> None:
    space = small(0.4, 1.0, 2.0)
    supernet = space.supernet().eval()
    for seed in range(4):
        architecture = space.sample(torch.Generator().manual_seed(seed))
        path = Gated(supernet, space.gates(architecture))
        assert count_macs(path, space.input_shape) == count_macs(space.network(architecture), space.input_shape)


def test_weights_beyond_a_drawn_slice_get_no_gradient() -> None:
    space = small(0.5, 2.0)
    supernet = space.supernet()
    narrow = {d.name: "k3" if d.name.startswith("block") else "w50" for d in space.decisions}
    supernet(torch.randn(4, 1, 8, 8), space.gates(space.validate(narrow))).sum().backward()
    grad = supernet.blocks[0]["k3_w200"].main[0].conv.weight.grad  # 8 wide; the slice's two
    assert bool((grad[:2] != 0).any())
    assert not bool((grad[2:] != 0).any())


def test_searched_batch_norms_learn_nothing_and_retrained_ones_do() -> None:
    space = small(0.5, 1.0)
    architecture = space.sample(torch.Generator().manual_seed(0))
    norms = [
        [m.affine for m in s.network(architecture).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for s in (space, space.evaluation())
    ]
    assert not any(norms[0])
    assert all(norms[1])
    assert space.evaluation().frame.dropout == space.frame.dropout


def test_dropout_stands_before_the_classifier() -> None:
    space = small(1.0, dropout=1 - 1e-6)
    network = space.network(space.sample(torch.Generator().manual_seed(0)))
    assert torch.equal(network(torch.randn(2, 1, 8, 8)), torch.zeros(2, 5))


@pytest.mark.parametrize("channels", [(), (0.001, 1.0), (1.0, 1.001)])
def test_factors_that_make_no_widths_are_refused(channels: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"factors of 0\.01 or more, each once"):
        small(*channels)


@pytest.mark.parametrize("stages", [[(8, 1, 2)], [(4, 1, 1)]])
def test_a_stage_that_leaves_no_main_branch_is_refused(stages: list[tuple[int, int, int]]) -> None:
    with pytest.raises(InputError, match="nothing is left for the main branch of 8 -> "):
        ShuffleNetSpace(image_size=8, stem=(8, 1), stages=stages)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8 pixels, got 7"):
        ShuffleNetSpace(image_size=7)
