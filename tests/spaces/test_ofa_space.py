"""Once-for-All's MobileNetV3 space: the contract."""

import pytest
import torch

from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
from lightning_nas.testing.spaces import SpaceCase


class TestOFASmall(SpaceCase):
    @pytest.fixture
    def space(self) -> OFAMobileNetV3Space:
        return OFAMobileNetV3Space(input_shape=(1, 8, 8), num_classes=10)

    def test_options_that_are_not_active_are_not_computed(self, space: OFAMobileNetV3Space) -> None:  # type: ignore[override]
        """By the names of what has a gradient; matrices of smaller kernels are no part of the network."""
        supernet, x = space.supernet(), space.example(4, torch.Generator().manual_seed(0))
        network = space.extract(supernet, space.smallest)
        network(x).sum().backward()
        supernet(x, space.gates(space.smallest)).sum().backward()
        alone, shared = ({n for n, p in m.named_parameters() if p.grad is not None} for m in (network, supernet))
        assert alone == {name for name in shared if ".matrices." not in name}
        assert len(shared) - len(alone) == 2  # a block of each stage, from 5 to 3
