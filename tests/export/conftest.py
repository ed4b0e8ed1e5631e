"""One run that was retrained, shared by all tests of what leaves it."""

from pathlib import Path

import pytest

import lightning_nas as ln
from lightning_nas.experiment.run import Run
from lightning_nas.spaces.chains.fbnet import FBNetSpace

CHOICES = {"layer_01": "k3_e1", "layer_02": "k5_e3"}


def small_space() -> FBNetSpace:
    return FBNetSpace(image_size=8, in_channels=1, num_classes=10, stages=[(16, 2, 1)], stem=(16, 1), head=32)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose answer was trained for one epoch on digits."""
    folder = tmp_path_factory.mktemp("finished")
    settings = {"retrain": {"epochs": 1, "batch_size": 32}, "callbacks": "none", "logger": "none"}
    run = ln.Run(folder, data="digits", space="fbnet_small", strategy="random", stages=["retrain"], **settings)
    run.space = small_space()
    run.retrain(run.space.validate(CHOICES))
    run.report()
    return run


@pytest.fixture(scope="session")
def folder(finished: Run) -> Path:
    return finished.folder
