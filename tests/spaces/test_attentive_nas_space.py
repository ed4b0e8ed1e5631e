"""AttentiveNAS' space: the contract."""

import pytest

from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.testing.spaces import SpaceCase


class TestAttentiveNASSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> AttentiveNASSpace:
        return AttentiveNASSpace(input_shape=(1, 8, 8), num_classes=10)
