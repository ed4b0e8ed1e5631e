"""The conformance suite on the tasks of the library, and on tasks that break a promise."""

import pytest
import torch
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MetricCollection

from lightning_nas.tasks.base import Task
from lightning_nas.tasks.classification import Classification
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.tasks.multilabel import MultiLabel
from lightning_nas.tasks.regression import Regression
from lightning_nas.tasks.segmentation import Segmentation
from lightning_nas.testing.tasks import TaskCase


class TestClassification(TaskCase):
    @pytest.fixture(params=[0.0, 0.1])
    def task(self, request: pytest.FixtureRequest) -> Task:
        return Classification(label_smoothing=request.param)


class TestOthers(TaskCase):
    @pytest.fixture(params=[Regression, MultiLabel, LanguageModelling, Segmentation])
    def task(self, request: pytest.FixtureRequest) -> Task:
        made: Task = request.param()
        return made


class Upside(Task):
    """Rewards the mean absolute error itself, so that the worse network is rewarded more."""

    score_name, targets = "mae", "numbers"

    def loss(self, output, target):
        return F.l1_loss(output, target)

    def metrics(self, num_classes, *, synced=True):
        return MetricCollection({"mae": MeanAbsoluteError(sync_on_compute=synced)})


class Summed(Regression):
    """Adds up over the batch, so that the rate of learning depends on its size."""

    def loss(self, output, target):
        return (output - target).square().sum()


def test_the_suite_finds_a_reward_that_is_upside_down_and_a_loss_that_is_a_sum() -> None:
    case, rng = TaskCase(), torch.Generator().manual_seed(0)
    target, output = torch.randn(60, 4, generator=rng), torch.randn(60, 4, generator=rng)
    with pytest.raises(AssertionError):
        case.test_scores_and_rewards_are_higher_for_the_better_network(Upside(), output, target)
    with pytest.raises(AssertionError):
        case.test_the_loss_of_a_batch_does_not_grow_with_its_size(Summed(), output, target)
