import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import nn

from lightning_nas.tasks.classification import Classification
from lightning_nas.training.recalibrate import recalibrate


def test_accuracy_agrees_with_scikit_learn_over_uneven_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(103, 10, generator=generator), torch.arange(103) % 10
    network = nn.Linear(10, 10)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    with torch.no_grad():
        scores = network(x)
    task = Classification()
    metrics = task.metrics(10)
    for bx, by in batches:
        metrics.update(network(bx), by)
    figures = metrics.compute()
    assert task.evaluate(network, batches, 10) == pytest.approx(top_k_accuracy_score(y, scores, k=1), abs=1e-6)
    assert float(figures["acc"]) == pytest.approx(top_k_accuracy_score(y, scores, k=1), abs=1e-6)
    assert float(figures["acc_top5"]) == pytest.approx(top_k_accuracy_score(y, scores, k=5), abs=1e-6)


def test_few_classes_have_no_top_5() -> None:
    assert list(Classification().metrics(5)) == ["acc"]


def test_label_smoothing_is_a_mixture_with_the_uniform_target() -> None:
    logits, y = torch.randn(8, 5), torch.arange(8) % 5
    target = 0.9 * torch.eye(5)[y] + 0.1 / 5
    expected = -(target * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(Classification(0.1).loss(logits, y), expected)


def test_evaluation_puts_the_mode_back_and_uses_running_statistics() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = network[1].running_mean.clone()
    Classification().evaluate(network, [(torch.randn(6, 4) + 3, torch.zeros(6, dtype=torch.long))], 2)
    assert network.training
    assert torch.equal(network[1].running_mean, before)


def test_recalibrated_statistics_are_the_mean_over_the_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3)).eval()
    batches = [(torch.randn(8, 3, 4, 4) * (i + 1) + i, torch.zeros(8)) for i in range(3)]
    weights = [p.clone() for p in network.parameters()]
    recalibrate(network, batches)
    means = torch.stack([x.mean((0, 2, 3)) for x, _ in batches]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x, _ in batches]).mean(0)
    torch.testing.assert_close(network[0].running_mean, means)
    torch.testing.assert_close(network[0].running_var, variances)
    assert network[0].momentum == 0.3
    assert not network.training
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))
