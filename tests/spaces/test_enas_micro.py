import pytest

from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.enas_micro import EnasMicroSpace
from lightning_nas.testing.spaces import SpaceCase


class TestEnasMicro(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMicroSpace(
            image_size=8, in_channels=1, num_classes=3, layers=2, nodes=3, channels=2, evaluation=(1, 2, 0.0)
        )


class TestEnasMicroRetrained(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return EnasMicroSpace(image_size=9, in_channels=1, num_classes=3, nodes=2, evaluation=(3, 2, 0.0)).evaluation()
