from typing import Any

import pytest

from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.enas_rnn import EnasRnnSpace
from lightning_nas.testing.spaces import SpaceCase


def tiny(**options: Any) -> EnasRnnSpace:
    return EnasRnnSpace("tiny", **{"bptt": 4, "num_classes": 7, "width": 6, "nodes": 4} | options)


class TestEnasRnn(SpaceCase):
    @pytest.fixture(params=["search", "evaluation"])
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        space = tiny(drop_words=0.1)
        return space if request.param == "search" else space.evaluation()
