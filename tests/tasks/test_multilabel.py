"""Classification of several labels against scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from digit_targets import labels
from sklearn.metrics import average_precision_score, f1_score, log_loss
from torch import nn
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from lightning_nas.data.arrays import ArrayData
from lightning_nas.errors import InputError
from lightning_nas.experiment.by_target import figures_of_test
from lightning_nas.tasks.description import describe, rebuilt
from lightning_nas.tasks.multilabel import MultiLabel


def drawn(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=rng) * scale
    return logits, (torch.rand(200, 4, generator=rng) < (logits * 0.3).sigmoid()).float()


@pytest.mark.parametrize("scale", [3.0, 0.1])
def test_figures_over_batches_are_those_of_both_libraries(scale: float) -> None:
    logits, y = drawn(scale)
    logits[:50] = logits[:50].abs().clamp(0, 1)  # a batch of logits that look like probabilities
    metrics = MultiLabel().metrics(4)
    for pair in zip(logits.split(50), y.split(50), strict=True):
        metrics.update(*pair)
    found = metrics.compute()
    chances = logits.sigmoid()
    assert float(found["map"]) == pytest.approx(average_precision_score(y, chances, average="macro"), abs=1e-6)
    assert float(found["f1"]) == pytest.approx(f1_score(y, chances > 0.5, average="macro"), abs=1e-6)
    assert float(found["map"]) == pytest.approx(float(MultilabelAveragePrecision(4)(chances, y.long())), abs=1e-6)
    assert float(found["f1"]) == pytest.approx(float(MultilabelF1Score(4)(chances, y.long())), abs=1e-6)


def test_a_label_without_positive_samples_does_not_count() -> None:
    logits, y = drawn()
    y[:, 1] = 0
    metrics = MultiLabel().metrics(4)
    metrics.update(logits, y)
    rest = [0, 2, 3]
    wanted = average_precision_score(y[:, rest], logits[:, rest].sigmoid(), average="macro")
    assert float(metrics.compute()["map"]) == pytest.approx(wanted, abs=1e-6)


def test_a_network_of_no_numbers_has_the_score_0() -> None:
    metrics = MultiLabel().metrics(2)
    metrics.update(torch.full((3, 2), math.nan), torch.ones(3, 2))
    assert math.isnan(metrics.compute()["map"])
    assert MultiLabel().reward(math.nan) == 0


def test_loss_is_scikit_learns_log_loss() -> None:
    logits, y = drawn()
    chances = logits.double().sigmoid().numpy()
    wanted = np.mean([log_loss(y[:, t], chances[:, t], labels=[0, 1]) for t in range(4)])
    assert float(MultiLabel().loss(logits, y)) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(InputError, match=r"gives \(200, 4\) for targets \(200,\)"):
        MultiLabel().loss(logits, y[:, 0])


def test_imitation_is_least_for_the_same_output() -> None:
    logits, _ = drawn()
    task = MultiLabel()
    assert all(task.imitation_loss(logits, logits) < task.imitation_loss(logits + d, logits) for d in (-0.5, 0.5))


def test_test_figures_of_each_label_and_equal_shares_of_combinations() -> None:
    x, y = labels(300)
    data = ArrayData(x, y, batch_size=32)
    data.expect("labels")
    data.setup()
    parts, network = data._of(searched=False).parts, nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    test = y[parts["test"].indices]
    with torch.no_grad():
        chances = network(data.looked_at("test", 1000)[0]).sigmoid()
    found = figures_of_test(MultiLabel(), network, data)
    assert found["test_map"] == pytest.approx(average_precision_score(test, chances), abs=1e-6)
    np.testing.assert_allclose(
        [entry["map"] for entry in found["outputs"]], average_precision_score(test, chances, average=None), atol=1e-6
    )
    assert [entry["positives"] for entry in found["outputs"]] == test.sum(0).tolist()
    for combination in np.unique(y, axis=0):
        of = (y == combination).all(1)
        assert abs((test == combination).all(1).sum() - 0.2 * of.sum()) <= 1


def test_a_checkpoint_can_describe_it() -> None:
    assert type(rebuilt(describe(MultiLabel()))) is MultiLabel
