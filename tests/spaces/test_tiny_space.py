import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.ops.counts import count_macs, count_params
from lightning_nas.spaces.chains.tiny import OPTIONS, TinySpace
from lightning_nas.testing.spaces import SpaceCase


class TestTiny(SpaceCase):
    @pytest.fixture
    def space(self) -> TinySpace:
        return TinySpace(image_size=8, num_classes=5, channels=8)


def of(*chosen: str) -> torch.nn.Module:
    space = TinySpace()
    return space.network(space.validate({d.name: o for d, o in zip(space.decisions, chosen, strict=True)}))


@pytest.mark.parametrize(
    ("option", "early", "late"),  # weights, each once for each pixel of its output, and scale and shift
    [("conv_1x1", 24 * 24, 48 * 48), ("depthwise_3x3", 24 * 9, 48 * 9), ("avg_pool_3x3", 0, 0)],
)
def test_a_layer_costs_what_its_convolution_does(option: str, early: int, late: int) -> None:
    pools = of(*["avg_pool_3x3"] * 6)
    network = of(option, *["avg_pool_3x3"] * 4, option)
    norms = 2 * (24 + 48) if early else 0
    assert count_params(network) - count_params(pools) == early + late + norms
    shape = (1, 14, 14)
    assert count_macs(network, shape) - count_macs(pools, shape) == 49 * early + 16 * late


def test_the_fixed_parts_are_a_stem_a_reduction_and_a_classifier() -> None:
    pools = of(*["avg_pool_3x3"] * 6)
    assert count_params(pools) == (9 * 24 + 48) + (24 * 48 + 96) + (48 * 10 + 10)
    assert count_macs(pools, (1, 14, 14)) == 49 * 9 * 24 + 16 * 24 * 48 + 480


def test_images_below_4_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="at least 4 pixels, got 3"):
        TinySpace(image_size=3)
    assert len(TinySpace().decisions) == 6
    assert OPTIONS == ("conv_1x1", "depthwise_3x3", "avg_pool_3x3")
