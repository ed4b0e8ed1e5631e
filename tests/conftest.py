"""The longest files come first, and the environment that a test or Lightning changes does not reach the next test."""

import os
import sys
from collections.abc import Iterator
from unittest import mock

import pytest

from lightning_nas.latency import torch_device

# begun first, so that no worker is left with one of them when the others have ended
LONGEST = (
    *("test_readme", "test_darts_recipes", "test_resume", "test_conf", "test_notebooks", "test_every_trial_pair"),
    *("test_processes", "test_whole_run"),
)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's order, by the number of tests, leaves the longest to the end
    # no test cuts the power, and waiting for the disk is half the time of a search whose children are looked up
    os.fsync = lambda file: os.fstat(file) and None  # a descriptor that is closed still fails
    # a network that is measured alone takes half a second or more, which hardly any test looks at
    torch_device.RUN_TIMES = 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {stem: number for number, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield
    if torch := sys.modules.get("torch"):
        torch.use_deterministic_algorithms(False)  # a Trainer leaves it on, and then torch.empty fills what it gives
