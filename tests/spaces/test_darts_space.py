import pytest

from lightning_nas.spaces.darts import DartsSpace
from lightning_nas.spaces.darts_cell import DartsCellSpace
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


class TestDartsCell(SpaceCase):
    every_weight_trains = False

    @pytest.fixture
    def space(self) -> DartsCellSpace:
        return DartsCellSpace(
            image_size=8,
            in_channels=1,
            num_classes=3,
            cells=3,
            channels=2,
            nodes=2,
            operations=["skip_connect", "sep_conv_7x7", "conv_7x1_1x7"],
        )
