"""Spaces on images that are not square, compared with counts by hooks on the whole network."""

import json

import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.hardcore import HardCoReSpace
from lightning_nas.spaces.chains.mnasnet import MnasNetSpace
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.spaces.chains.spos_shufflenet import ShuffleNetSpace
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.description import describe, rebuilt
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
from lightning_nas.spaces.enas.macro import ENASMacroSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.nas_rl.cnn import NASRLCNNSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.spaces.nasnet.space import NASNetSpace
from lightning_nas.spaces.sides import Sides, by, pair
from lightning_nas.spaces.transformers.autoformer import AutoFormerSpace

ANY = (
    *(FBNetSpace, HardCoReSpace, MnasNetSpace, MobileSpace, ProxylessNASSpace, ShuffleNetSpace),
    *(DARTSSpace, DARTSCellSpace, NASBench201Space, TinySpace, AutoFormerSpace),
)
SMALL = {MnasNetSpace: {"blocks": [(8, 2, 1), (16, 2, 2)], "last": 16, "mix": 32}}
SQUARE = (
    AttentiveNASSpace,
    OFAMobileNetV3Space,
    BlockQNNSpace,
    EASSpace,
    ENASMacroSpace,
    ENASMicroSpace,
    NASRLCNNSpace,
    NASNetSpace,
    PNASSpace,
)


@pytest.mark.parametrize("kind", ANY)
def test_costs_of_any_sides_add_up_to_the_whole_network(kind):
    shape = (1, 9, 14)
    space = kind(input_shape=shape, num_classes=5, **SMALL.get(kind, {}))
    assert space.input_shape == shape
    architecture = space.sample(torch.Generator().manual_seed(0))
    network = space.network(architecture).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 5)
    assert space.cost(architecture, LatencyTable.macs(space)) == count_macs(network, shape)
    if isinstance(space, WeightSharingSpace):
        supernet = space.supernet().eval()
        assert supernet(torch.rand(2, *shape), space.gates(architecture)).shape == (2, 5)
    assert space.evaluation().input_shape == shape
    described = json.loads(json.dumps(describe(space.evaluation())))
    assert rebuilt(described).digest == space.evaluation().digest


@pytest.mark.parametrize("kind", [FBNetSpace, DARTSSpace, NASBench201Space])
def test_two_equal_sides_are_a_square(kind):
    named = {"image_size": (16, 16), "in_channels": 3, "num_classes": 5}
    assert kind(**named).digest == kind(**named | {"image_size": 16}).digest


@pytest.mark.parametrize("kind", SQUARE)
def test_spaces_of_square_images_alone_say_which_take_others(kind):
    with pytest.raises(InputError, match=rf"{kind.__name__} takes square images alone, got 16x8; FBNetSpace, .* take"):
        kind(input_shape=(3, 16, 8), num_classes=5)


def test_images_too_small_in_one_direction_are_refused():
    for shape in ((3, 4, 32), (3, 32, 4)):
        with pytest.raises(InputError, match=f"got {shape[1]}x{shape[2]}"):
            FBNetSpace(input_shape=shape, num_classes=5)


@pytest.mark.parametrize("size", [(8,), (8, 9, 10), (8, 0), (8, -1), (8, 2.5), "ab", None])
def test_other_sizes_are_refused(size):
    with pytest.raises(InputError, match="legal is one whole number, or"):
        FBNetSpace(image_size=size, in_channels=1, num_classes=5)


def test_sides_are_counted_each_on_its_own():
    for height, width, by_ in ((7, 12, 2), (33, 10, 4)):
        sides = -(-Sides(height, width) // by_)
        assert pair(sides) == (-(-height // by_), -(-width // by_))
        assert by(sides) == f"{pair(sides)[0]}x{pair(sides)[1]}"
