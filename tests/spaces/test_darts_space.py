import pytest

from lightning_nas.spaces.darts import DartsSpace
from lightning_nas.testing.spaces import SpaceCase


class TestDartsSmall(SpaceCase):
    @pytest.fixture
    def space(self) -> DartsSpace:
        return DartsSpace(image_size=8, in_channels=1, num_classes=3, cells=3, channels=2)


class TestDartsImageNetForm(SpaceCase):
    @pytest.fixture
    def space(self) -> DartsSpace:
        return DartsSpace(
            image_size=36, in_channels=1, num_classes=3, cells=3, channels=2, stem="imagenet", affine=True
        )
