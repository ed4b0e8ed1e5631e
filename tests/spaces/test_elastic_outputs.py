"""Elastic supernets in the authors' sizes: parameters, outputs of the authors' code, slices and their gradients."""

import pytest
import torch
from torch import Tensor, nn

from lightning_nas import zoo
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.spaces.elastic.layers import ElasticBlock, centre
from lightning_nas.spaces.elastic.networks import ElasticSupernet
from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
from lightning_nas.spaces.elastic.shapes import BlockShape

SIDE = 64
# First four logits of the first image, training mode: facebookresearch/AttentiveNAS c4c16f1, AttentiveNasDynamicModel,
# and mit-han-lab/once-for-all f03b267, OFAMobileNetV3, with the weights and the images of `filled` and `images`.
ATTENTIVE = {
    "attentive_nas_a1": (0.0024536, -0.3237591, 0.0487625, -0.2758586),
    "attentive_nas_a5": (-0.2301328, -0.3782405, -0.0981596, -0.2497978),
    "attentive_nas_a6": (-0.2597215, -0.2974666, -0.2552013, 0.0085277),
    "largest": (-0.271007, -0.0956045, -0.2186242, -0.2762162),
}
OFA = {  # width multiplier, kernel, expansion, depth
    (1.0, 7, 6, 4): (-0.0323175, -0.0190592, 0.144938, 0.2134421),
    (1.0, 3, 3, 2): (0.0118681, 0.1584652, -0.2233953, 0.2507494),
    (1.0, 5, 4, 3): (0.014321, 0.0863761, -0.0523079, 0.3599959),
    (1.2, 5, 4, 3): (0.3653778, -0.0977885, -0.097712, 0.2188968),
}
# parameters and multiply-adds at 224 px of the same classes
SIZES = {
    (1.0, 7, 6, 4): (7_664_760, 566_170_656),
    (1.0, 3, 3, 2): (3_410_792, 121_278_672),
    (1.0, 5, 4, 3): (4_551_792, 250_746_944),
    (1.2, 7, 6, 4): (10_701_632, 843_101_040),
    (1.2, 3, 3, 2): (4_602_456, 193_078_200),
    (1.2, 5, 4, 3): (6_245_312, 385_659_168),
}


def filled(supernet: ElasticSupernet) -> ElasticSupernet:
    """Weights drawn parameter by parameter, each with a seed of its own."""
    with torch.no_grad():
        for seed, (name, weight) in enumerate(supernet.named_parameters()):
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
            if weight.dim() == 1:
                weight.copy_(1 + 0.1 * drawn if name.endswith("norm.weight") else 0.1 * drawn)
            elif "matrices" in name:
                weight.copy_(torch.eye(len(weight)) + 0.1 * drawn)
            else:
                weight.copy_(drawn / weight[0].numel() ** 0.5)
    return supernet


def images(side: int) -> Tensor:
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def attentive() -> tuple[AttentiveNASSpace, ElasticSupernet]:
    space = AttentiveNASSpace(image_size=80, resolutions=[SIDE], num_classes=10)
    return space, filled(space.supernet())


@pytest.mark.parametrize("name", ATTENTIVE)
def test_attentive_nas_computes_what_the_authors_do(attentive, name) -> None:
    """The authors' images of 80 px are resized to 64 as well."""
    space, supernet = attentive
    chosen = dict(space.largest.choices if name == "largest" else zoo.load(name).choices)
    chosen.pop("resolution", None)
    architecture = space.validate(chosen)
    with torch.no_grad():
        logits = supernet(images(80), space.gates(architecture))
        torch.testing.assert_close(logits[0, :4], torch.tensor(ATTENTIVE[name]), rtol=0, atol=1e-5)
        assert torch.equal(space.extract(supernet, architecture)(images(80)), logits)


@pytest.mark.parametrize("sizes", OFA)
def test_once_for_all_computes_what_the_authors_do(sizes) -> None:
    width, *_ = sizes
    space = OFAMobileNetV3Space(image_size=SIDE, resolutions=[SIDE], num_classes=10, width_mult=width, dropout=0.0)
    architecture, supernet = alike(space, *sizes[1:]), filled(space.supernet())
    with torch.no_grad():
        logits = supernet(images(SIDE), space.gates(architecture))
        torch.testing.assert_close(logits[0, :4], torch.tensor(OFA[sizes]), rtol=0, atol=1e-5)
        assert torch.equal(space.extract(supernet, architecture)(images(SIDE)), logits)


def alike(space: OFAMobileNetV3Space, kernel: int, expansion: int, depth: int, resolution: int = 224):
    told = {"kernel": kernel, "expansion": expansion, "depth": depth, "resolution": resolution}
    return space.validate({d.name: str(told[d.name.rpartition(".")[2]]) for d in space.decisions})


@pytest.mark.parametrize("sizes", SIZES)
def test_once_for_all_has_the_published_size(sizes) -> None:
    width, *rest = sizes
    with torch.device("meta"):
        space = OFAMobileNetV3Space(width_mult=width)
        network = space.network(alike(space, *rest))
        assert (count_params(network), count_macs(network, (3, 224, 224))) == SIZES[sizes]
        assert count_params(space.supernet()) == {1.0: 7_678_880, 1.2: 10_715_752}[width]


def test_attentive_nas_supernet_has_the_published_size() -> None:
    with torch.device("meta"):
        assert count_params(AttentiveNASSpace().supernet()) == 23_934_704


def test_only_shortcuts_that_nothing_uses_are_spare() -> None:
    """A0 without them: fewer by the square of the width of each block that keeps its shape or its channels."""
    architecture = zoo.load("attentive_nas_a0")
    with torch.device("meta"):
        with_spare, without = (
            AttentiveNASSpace(spare_shortcuts=spare).network(architecture) for spare in (True, False)
        )
    widths, depths = (16, 24, 32, 64, 112, 192, 216), (1, 3, 3, 3, 3, 3, 1)
    spare = 16**2 + sum(width**2 * (depth - 1) for width, depth in zip(widths, depths, strict=True))
    assert count_params(with_spare) - count_params(without) == spare == 110_464
    assert count_params(with_spare) - sum(p.numel() for p in with_spare.parameters() if p.requires_grad) == spare


def test_what_a_network_does_not_use_has_no_gradient() -> None:
    """Compared with autograd on the network alone."""
    space = AttentiveNASSpace(input_shape=(1, 8, 8), num_classes=10)
    supernet = filled(space.supernet())
    network = space.extract(supernet, space.smallest)
    x = space.example(4, torch.Generator().manual_seed(0))
    supernet(x, space.gates(space.smallest)).square().sum().backward()
    network(x).square().sum().backward()
    alone = {name: p.grad for name, p in network.named_parameters()}
    for name, shared in supernet.named_parameters():
        if name not in alone:
            assert shared.grad is None
            continue
        used = torch.zeros_like(shared, dtype=torch.bool)
        inside = used[tuple(slice(size) for size in alone[name].shape[:2])]
        (centre(inside, alone[name].shape[-1]) if inside.dim() == 4 else inside)[...] = True
        torch.testing.assert_close(shared.grad[used].reshape(alone[name].shape), alone[name], rtol=1e-4, atol=1e-6)
        assert not shared.grad[~used].any()


def test_kernels_begin_as_the_centre_and_are_learned_together() -> None:
    block = ElasticBlock(
        BlockShape(8, 8, 7, 2, 1, False, "relu", False, False), (3, 5, 7), learned=True, projects=False
    )
    whole = block.depthwise.conv.weight
    for size in (3, 5):
        assert torch.equal(block.kernel(8, size), centre(whole[:8], size))
    with torch.no_grad():
        block.matrices["k5"].copy_(torch.randn(25, 25))
        five = torch.einsum("ij,cj->ci", block.matrices["k5"], whole[:, 0, 1:6, 1:6].flatten(1)).reshape(-1, 1, 5, 5)
    torch.testing.assert_close(block.kernel(16, 5), five)
    torch.testing.assert_close(block.kernel(16, 3), five[..., 1:4, 1:4])


def test_soft_gates_of_kernels_mix_the_padded_kernels() -> None:
    """In float64, against the sum written out: 0.3 of the kernel of 3 and 0.7 of that of 5, everywhere."""
    elastic = {"depths": (2,), "kernels": (3, 5), "expansions": (3,), "resolutions": (8,)}
    space = OFAMobileNetV3Space(image_size=8, in_channels=1, num_classes=10, stem=8, stages=[(8, 1, True, "relu")],
                                dropout=0.0, **elastic)  # fmt: skip
    supernet = filled(space.supernet()).double()
    whole = space.extract(supernet, space.largest)
    for module, elastic_block in zip(whole.stages[1], supernet.stages[1], strict=True):
        small = nn.functional.pad(elastic_block.kernel(24, 3), [1] * 4)
        module.depthwise.conv.weight.data = 0.3 * small + 0.7 * elastic_block.kernel(24, 5)
    x = space.example(4, torch.Generator().manual_seed(0)).double()
    gates = type(space.gates(space.largest)).soft(
        {g: torch.tensor([[0.3, 0.7]], dtype=torch.float64) for g in space.gate_shapes}
    )
    torch.testing.assert_close(supernet(x, gates), whole(x), rtol=1e-10, atol=1e-12)
