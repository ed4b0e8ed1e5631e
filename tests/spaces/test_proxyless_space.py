import math

import pytest
import torch
from torch import nn

from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import MBConv, Zero
from lightning_nas.ops.mixed import plain
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.testing.spaces import SpaceCase


def small(image_size: int = 8) -> ProxylessNASSpace:
    shape = {"stem": (8, 1), "first": 8, "stages": [(12, 2, 2), (12, 1, 1)], "mix": 16}
    return ProxylessNASSpace("small", image_size=image_size, in_channels=1, num_classes=5, **shape)


class TestProxylessSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> ProxylessNASSpace:
        return small()


def test_the_papers_space_has_its_size() -> None:
    space = ProxylessNASSpace()
    sizes = [len(d.options) for d in space.decisions]
    assert math.prod(sizes) == 221_502_229_807_900_608
    assert (sizes.count(6), sizes.count(7)) == (6, 15)
    assert space.gate_shapes == {"blocks": (15, 7), "first_blocks": (6, 6)}


def test_the_papers_blocks_have_its_widths_and_sizes() -> None:
    blocks = ProxylessNASSpace().blocks
    assert [b.out_channels for b in blocks] == [24] * 4 + [40] * 4 + [80] * 4 + [96] * 4 + [192] * 4 + [320]
    assert [b.out_size for b in blocks] == [56] * 4 + [28] * 4 + [14] * 8 + [7] * 5
    assert [i for i, b in enumerate(blocks) if b.group == "first_blocks"] == [0, 4, 8, 12, 16, 20]


def test_zero_leaves_the_identity_and_costs_nothing() -> None:
    space = small()
    network = space.network(space.validate({"block_01": "k3_e3", "block_02": "zero", "block_03": "zero"}))
    assert [type(block) for block in network.blocks] == [MBConv, nn.Identity, nn.Identity]
    assert space.gate_keys()[1]["blocks"][0][-1] == ()
    assert torch.equal(Zero()(torch.ones(2, 3)), torch.zeros(2, 3))


def test_a_block_that_changes_its_shape_cannot_be_left_out() -> None:
    with pytest.raises(InputError, match="block_01 cannot be 'zero'"):
        small().validate({"block_01": "zero", "block_02": "zero", "block_03": "zero"})


def test_gate_gradients_are_products_with_the_branch_outputs() -> None:
    space = small()
    supernet, block = space.supernet(plain), 1
    architecture = space.validate({"block_01": "k3_e3", "block_02": "k5_e6", "block_03": "zero"})
    gates = space.gates(architecture)
    values = {group: m.clone().requires_grad_() for group, m in gates.values.items()}
    every = {group: (tuple(range(m.shape[1])),) * len(m) for group, m in values.items()}
    seen = {}
    mixed = supernet.blocks[block]
    for name in mixed.names:
        mixed[name].register_forward_hook(lambda _, __, y, name=name: seen.update({name: y.detach()}))
    mixed.register_forward_hook(lambda _, __, y: y.register_hook(lambda grad: seen.update({"grad": grad})) and None)
    supernet(torch.randn(4, 1, 8, 8), type(gates)(values, every)).square().sum().backward()
    expected = torch.stack([(seen["grad"] * seen[name]).sum() for name in mixed.names])
    torch.testing.assert_close(values["blocks"].grad[0], expected, rtol=1e-4, atol=1e-5)
    assert expected[-1] == 0


@pytest.mark.parametrize("size", [8, 9, 31])
def test_any_image_size_fits(size: int) -> None:
    space = ProxylessNASSpace(image_size=size)
    architecture = space.sample(torch.Generator().manual_seed(size))
    with torch.device("meta"):
        network = space.network(architecture).eval()
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 1000)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8 pixels, got 7"):
        ProxylessNASSpace("tiny", image_size=7)


def test_the_norms_and_activations_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        modules = list(small().supernet().modules())
    assert {(m.eps, m.momentum) for m in modules if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.1)}
    assert any(isinstance(m, nn.ReLU6) for m in modules)
    assert not any(isinstance(m, nn.ReLU) for m in modules)
