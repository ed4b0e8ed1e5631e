import pytest

from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.enas_macro import EnasMacroSpace
from lightning_nas.testing.spaces import SpaceCase


def small(**options: object) -> EnasMacroSpace:
    sizes = {"image_size": 9, "in_channels": 1, "num_classes": 3, "layers": 4, "channels": 2, "evaluation": (2, 0.1)}
    return EnasMacroSpace(**sizes | options)  # type: ignore[arg-type]


class TestEnasMacro(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return small()


class TestEnasMacroRetrained(SpaceCase):
    every_weight_trains = False  # tensors that nothing needs are halved all the same

    @pytest.fixture
    def space(self) -> SearchSpace:
        return small().evaluation()
