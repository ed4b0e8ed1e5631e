import pytest

from lightning_nas.testing.spaces import SpaceCase
from lightning_nas.testing.toys import ToySpace


class TestToySpace(SpaceCase):
    @pytest.fixture
    def space(self) -> ToySpace:
        return ToySpace()
