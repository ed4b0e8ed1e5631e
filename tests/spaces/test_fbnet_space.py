import itertools

import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.testing.spaces import SpaceCase


class TestFBNetSmall(SpaceCase):
    @pytest.fixture(params=[True, False], ids=["fused", "reference"])
    def space(self, request: pytest.FixtureRequest) -> FBNetSpace:
        return FBNetSpace(
            "fbnet_small",
            image_size=8,
            in_channels=1,
            num_classes=10,
            stem=(8, 1),
            stages=[(8, 1, 1), (12, 2, 2), (16, 1, 1)],
            head=32,
            fused=request.param,
        )


def test_the_papers_space_has_9_to_the_22_architectures() -> None:
    space = FBNetSpace()
    assert [len(d.options) for d in space.decisions] == [9] * 22
    assert 9 ** len(space.decisions) == 984_770_902_183_611_232_881


def test_the_papers_layers_have_the_shapes_of_table_1() -> None:
    shapes = [(layer.in_channels, layer.size) for layer in FBNetSpace().layers]
    stages = [((16, 112), 2), ((24, 56), 4), ((32, 28), 4), ((64, 14), 4), ((112, 14), 4), ((184, 7), 4)]
    expected = list(itertools.chain.from_iterable([shape] * count for shape, count in stages))
    # the first layer of a strided stage still sees the size before the stride
    for index, size in ((1, 112), (5, 56), (9, 28), (17, 14)):
        expected[index] = (expected[index][0], size)
    expected[13] = (64, 14)
    assert [size for _, size in shapes] == [size for _, size in expected]
    widths = [16, *(width for width in (24, 32, 64, 112, 184) for _ in range(4)), 352]
    assert [layer.out_channels for layer in FBNetSpace().layers] == widths


def test_the_network_shrinks_as_the_strides_say() -> None:
    space = FBNetSpace(image_size=64, num_classes=7)
    architecture = space.validate({d.name: "k3_e1" for d in space.decisions})
    features = {}
    network = space.network(architecture).eval()
    for i, layer in enumerate(network.layers):
        layer.register_forward_hook(lambda _, __, y, i=i: features.update({i: tuple(y.shape[1:])}))
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert [features[i] for i in (0, 1, 5, 9, 17, 21)] == [
        (16, 32, 32),
        (24, 16, 16),
        (32, 8, 8),
        (64, 4, 4),
        (184, 2, 2),
        (352, 2, 2),
    ]


def test_skip_is_the_identity_or_a_convolution() -> None:
    space = FBNetSpace()
    names = [type(layer.block("skip")).__name__ for layer in space.layers]
    assert [i for i, name in enumerate(names) if name == "Sequential"] == [1, 5, 9, 13, 17, 21]


def test_grouped_blocks_mix_their_groups_by_the_shuffle() -> None:
    block = FBNetSpace().layers[0].block("k3_e1_g2").eval()
    x = torch.randn(1, 16, 4, 4)
    residual = x.requires_grad_()
    (block(residual) - residual)[:, :8].sum().backward()
    touched = residual.grad.abs().sum((0, 2, 3)) > 0
    assert touched[:8].any(), "the first half of the output sees nothing of the first group"
    assert touched[8:].any(), "without the shuffle the second group would not be seen"


def test_sizes_that_grouped_blocks_cannot_have_are_refused() -> None:
    with pytest.raises(InputError, match=r"even channel numbers.*got 7"):
        FBNetSpace("odd", stem=(7, 1))
    with pytest.raises(InputError, match="at least 8 pixels, got 4"):
        FBNetSpace("tiny", image_size=4)


def test_one_path_runs_one_block_a_layer() -> None:
    space = FBNetSpace("small", image_size=8, stem=(8, 1), stages=[(8, 2, 1)], num_classes=2, head=8)
    supernet = space.supernet()
    supernet(torch.zeros(2, 3, 8, 8), space.gates(space.validate({"layer_01": "k5_e3", "layer_02": "skip"})))
    tracked = {name: value for name, value in supernet.layers.named_buffers() if name.endswith("batches_tracked")}
    assert {".".join(name.split(".")[:2]) for name, batches in tracked.items() if batches} == {"0.k5_e3"}


def test_probabilities_that_tie_derive_the_first_option() -> None:
    space = FBNetSpace("small", image_size=8, stem=(8, 1), stages=[(8, 1, 1)])
    assert space.derive(Gates.soft({"layers": torch.full((1, 9), 1 / 9)}).values)["layer_01"] == "k3_e1"
