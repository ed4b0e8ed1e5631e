import pytest
import torch

from lightning_nas import zoo
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import MBConv
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.testing.spaces import SpaceCase


class TestMobileSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> MobileSpace:
        return MobileSpace("small", image_size=8, in_channels=1, num_classes=5, backbone="small")


@pytest.mark.parametrize(("backbone", "blocks"), [("gpu", 14), ("cpu", 20)])
def test_every_block_has_nine_options(backbone: str, blocks: int) -> None:
    space = MobileSpace(backbone=backbone)
    assert space.gate_shapes == {"blocks": (blocks, 9)}
    assert set(space.decisions[0].options) == {f"k{k}_e{e}" for k in (3, 5, 7) for e in (1, 3, 6)}


# what ProxylessNAS found, from its own zoo entries: blocks that are not left out, and around them the same network
@pytest.mark.parametrize("backbone", ["gpu", "cpu"])
def test_a_backbone_is_the_network_proxylessnas_found(backbone: str) -> None:
    found = zoo.load(f"proxyless_{backbone}")
    original = zoo.space(f"proxyless_{backbone}", 1000)
    assert isinstance(original, ProxylessNASSpace)
    chosen = ["k3_e1", *(option for option in found.options if option != "zero")]
    space = MobileSpace(backbone=backbone)
    choices = {decision.name: option for decision, option in zip(space.decisions, chosen, strict=True)}
    with torch.device("meta"):
        ours, theirs = space.network(space.validate(choices)), original.network(found)
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]
    strides = [[m.depthwise.conv.stride for m in n.modules() if isinstance(m, MBConv)] for n in (ours, theirs)]
    shortcuts = [[m.residual for m in n.modules() if isinstance(m, MBConv)] for n in (ours, theirs)]
    assert strides[0] == strides[1]
    assert shortcuts[0] == shortcuts[1]


def test_expansion_1_has_no_convolution_before_the_depthwise_one() -> None:
    with torch.device("meta"):
        narrow, wide = (MobileSpace().blocks[3].build(option) for option in ("k3_e1", "k3_e3"))
    assert isinstance(narrow.expand, torch.nn.Identity)
    assert wide.expand.conv.out_channels == 3 * wide.expand.conv.in_channels


@pytest.mark.parametrize("size", [8, 9, 64])
def test_the_small_space_takes_small_images(size: int) -> None:
    space = MobileSpace("mobile_small", image_size=size, backbone="small")
    architecture = space.sample(torch.Generator().manual_seed(size))
    with torch.device("meta"):
        network = space.network(architecture).eval()
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 1000)


def test_an_unknown_backbone_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no backbone is called 'tpu'.*legal: gpu, cpu, small"):
        MobileSpace(backbone="tpu")
    with pytest.raises(InputError, match="at least 8 pixels, got 7"):
        MobileSpace(image_size=7, backbone="small")
