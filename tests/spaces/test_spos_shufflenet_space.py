import math

import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.spos_shufflenet import ShuffleNetSpace
from lightning_nas.testing.spaces import SpaceCase

TEN = tuple(i / 5 for i in range(1, 11))


def small(*channels: float, affine: bool = False, dropout: float = 0.0) -> ShuffleNetSpace:
    shape = {"stem": (8, 1), "stages": [(8, 1, 1), (16, 2, 2)], "mix": 16}
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 5}
    return ShuffleNetSpace("small", **sizes, **shape, dropout=dropout, channels=channels, affine=affine)


class TestBlocks(SpaceCase):
    @pytest.fixture
    def space(self) -> ShuffleNetSpace:
        return small(1.0)


class TestBlocksAndChannels(SpaceCase):
    @pytest.fixture
    def space(self) -> ShuffleNetSpace:
        return small(2.0, 0.4, 1.0)


class TestBatchNormsThatLearn(SpaceCase):
    @pytest.fixture
    def space(self) -> ShuffleNetSpace:
        return small(0.5, 1.0, affine=True)
