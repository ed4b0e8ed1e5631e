import pytest

from lightning_nas.spaces.darts_rnn import DartsRnnSpace
from lightning_nas.testing.spaces import SpaceCase


class TestDartsRnn(SpaceCase):
    @pytest.fixture(params=["search", "evaluation"])
    def space(self, request: pytest.FixtureRequest) -> DartsRnnSpace:
        space = DartsRnnSpace("tiny", bptt=4, num_classes=7, width=6, steps=3, drop_words=0.1)
        return space if request.param == "search" else space.evaluation()
