"""HardCoRe-NAS' space: the contract, and how often a network is there."""

import itertools

import pytest
import torch
from torch import nn

from lightning_nas.ops.blocks import rounded
from lightning_nas.spaces.chains.hardcore import BLOCKS, HardCoReSpace
from lightning_nas.testing.spaces import SpaceCase


class TestHardCoReSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> HardCoReSpace:
        return HardCoReSpace(input_shape=(1, 8, 8), num_classes=10)


def test_the_third_and_fourth_block_of_a_stage_may_be_left_out() -> None:
    """Every way to fill one stage with two kinds of block and none: the networks of two, three and four blocks."""
    optional = [len(decision.options) > 12 for decision in HardCoReSpace().decisions]
    assert optional == [False, False, True, True] * 5
    assert len(BLOCKS) == 12
    space = HardCoReSpace(input_shape=(1, 8, 8), num_classes=2, stages=((8, 4, 1),), first=8)
    kinds = ("k3_e3", "k5_e3")
    found = set()
    for chosen in itertools.product(kinds, kinds, (*kinds, "zero"), (*kinds, "zero")):
        blocks = space.network(space.validate(dict(zip(space._names, chosen, strict=True)))).blocks
        convolutions = (m for m in blocks.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        found.add(tuple(m.kernel_size[0] for m in convolutions))
    assert len(found) == 2**2 + 2**3 + 2**4


def test_hard_swish_begins_where_it_is_asked_to() -> None:
    space = HardCoReSpace(input_shape=(1, 16, 16), num_classes=4, stages=((8, 2, 1), (8, 2, 2)), relu_stages=1)
    network = space.network(space.sample(torch.Generator().manual_seed(0)))
    first, last = network.blocks[0], network.blocks[3]
    assert any(isinstance(m, nn.ReLU) for m in first.expand)
    assert not any(isinstance(m, nn.Hardswish) for m in first.modules())
    assert any(isinstance(m, nn.Hardswish) for m in last.expand)


@pytest.mark.parametrize(
    ("channels", "expected"), [(12.0, 16), (16.0, 16), (19.9, 24), (18.0, 24), (28.0, 32), (1.0, 8)]
)
def test_channels_are_rounded_as_by_mobilenets_rule(channels: float, expected: int) -> None:
    """Worked by hand: to the nearest multiple of 8, and up where that is below nine tenths."""
    assert rounded(channels) == expected
