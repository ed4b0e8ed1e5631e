"""What the parts of the conformance suite of strategies share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lightning_nas.data.base import SearchData
from lightning_nas.strategies.alternating import AlternatingSearch
from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import one_thread

Make = Callable[..., SearchModule]


class SearchCase:
    """What a strategy's tests are given."""

    epochs = 2  #: of the short searches

    @pytest.fixture
    def make(self) -> Make:
        """The factory of the strategy under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'make'")

    @pytest.fixture
    def data(self) -> SearchData:
        """As little as an epoch of four batches takes, and two batches of validation."""
        return ToyData(304, val_fraction=0.15)

    @pytest.fixture
    def lessons(self) -> SearchData:
        """Enough for a toy network to learn from, in seconds."""
        return ToyData()

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        with one_thread():
            yield


def steps_architecture(make: Make) -> None:
    """Skip the test of a strategy that takes no architecture steps."""
    if not isinstance(make(), AlternatingSearch):
        pytest.skip("takes no architecture steps")
