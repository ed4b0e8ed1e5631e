"""Fixtures and options of the conformance suite of strategies with shared weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lightning_nas.data.base import SearchData
from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import one_thread

Make = Callable[..., SearchModule]

PLAIN: dict[str, Any] = {"weights_scheduler": None, "weights_clip": None}
"""Options of a search at a constant rate without clipping."""

PLAIN_ARCH: dict[str, Any] = PLAIN | {"arch_warmup_epochs": 0}
"""The same for a search with architecture steps, which begin at once."""


class SearchCase:
    """Fixtures of the tests of a strategy."""

    epochs = 2  #: of the short searches

    @pytest.fixture
    def make(self) -> Make:
        """The factory of the strategy under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'make'")

    @pytest.fixture
    def data(self) -> SearchData:
        """Data for an epoch of four batches, and two batches of validation."""
        return ToyData(304, val_fraction=0.15)

    @pytest.fixture
    def lessons(self) -> SearchData:
        """Enough data to train a toy network on in seconds."""
        return ToyData()

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        with one_thread():
            yield


def steps_architecture(make: Make) -> None:
    """Skip the test of a strategy that takes no architecture steps."""
    if not make().steps_architecture:
        pytest.skip("takes no architecture steps")
