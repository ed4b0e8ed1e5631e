"""Regression against scikit-learn and numpy."""

import math

import numpy as np
import pytest
import torch
from digit_targets import numbers
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import nn

from lightning_nas.data.arrays import ArrayData
from lightning_nas.errors import InputError
from lightning_nas.experiment.by_target import figures_of_test
from lightning_nas.tasks.description import describe, rebuilt
from lightning_nas.tasks.regression import Regression


def made() -> ArrayData:
    data = ArrayData(*numbers(300), batch_size=32)
    data.expect("numbers")
    data.setup()
    return data


def linear(data: ArrayData) -> nn.Module:
    """Shrunken least squares on the pixels of the training images, in standardised targets."""
    x, y = data.looked_at("retrain", 10_000)
    fitted = LinearRegression().fit(x.flatten(1), y)
    layer = nn.Linear(64, y.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(0.9 * fitted.coef_))  # else the ink, a sum of pixels, is exact
        layer.bias.copy_(torch.from_numpy(fitted.intercept_))
    return nn.Sequential(nn.Flatten(), layer)


def test_test_figures_are_scikit_learns_in_the_unit_of_the_targets() -> None:
    data = made()
    network, part = linear(data), data._of(searched=False).parts["test"]
    raw = numbers(300)[1][part.indices]
    x, y = data.looked_at("test", 10_000)
    with torch.no_grad():
        said = network(x)
    own = said.double().numpy() * data.scale.std.numpy() + data.scale.mean.numpy()
    found = figures_of_test(Regression(), network, data)
    assert found["test_r2"] == pytest.approx(r2_score(raw, own), abs=1e-6)
    assert found["test_r2"] == pytest.approx(r2_score(y, said), abs=1e-6)
    assert found["test_mse"] == pytest.approx(mean_squared_error(raw, own), rel=1e-6)
    assert found["test_mae"] == pytest.approx(mean_absolute_error(raw, own), rel=1e-6)
    wanted = {
        "r2": r2_score(raw, own, multioutput="raw_values"),
        "mse": mean_squared_error(raw, own, multioutput="raw_values"),
        "mae": mean_absolute_error(raw, own, multioutput="raw_values"),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose([entry[name] for entry in found["outputs"]], values, rtol=2e-5)
    assert [entry["name"] for entry in found["outputs"]] == ["0", "1", "2"]


def test_targets_are_standardised_by_the_samples_to_train_on() -> None:
    data = made()
    parts = data._of(searched=False).parts
    raw = numbers(300)[1]
    train = raw[parts["retrain"].indices]
    np.testing.assert_allclose(data.scale.mean, train.mean(0))
    np.testing.assert_allclose(data.scale.std, train.std(0))
    _, y = next(iter(data.test_dataloader()))
    assert y.dtype == torch.float32
    np.testing.assert_allclose(
        y, ((raw[parts["test"].indices] - train.mean(0)) / train.std(0))[:32], rtol=1e-5, atol=1e-5
    )
    assert sum(len(parts[name]) for name in ("weights", "arch", "val", "test")) == 300


def test_r2_over_uneven_batches_is_that_of_all_samples() -> None:
    data = made()
    network, (x, y) = linear(data), data.looked_at("val", 10_000)
    batches = list(zip(x.split(13), y.split(13), strict=True))
    with torch.no_grad():
        wanted = r2_score(y, network(x))
    assert Regression().evaluate(network, batches, 3) == pytest.approx(wanted, abs=1e-6)
    assert Regression().score(network, batches, 3) == pytest.approx(1 / (2 - wanted), abs=1e-6)


def test_the_order_of_scores_is_that_of_r2_and_they_are_from_0_to_1() -> None:
    task = Regression()
    figures = [math.nan, -math.inf, -1e30, -2.0, 0.0, 0.5, 1.0]
    scores = [task.reward(figure) for figure in figures]
    assert scores == sorted(scores)
    assert (scores[0], scores[1], scores[4], scores[-1]) == (0, 0, 0.5, 1)


def test_loss_is_the_mean_over_samples_and_targets() -> None:
    output, target = torch.randn(5, 2), torch.randn(5, 2)
    assert float(Regression().loss(output, target)) == pytest.approx(mean_squared_error(target, output), rel=1e-6)
    with pytest.raises(InputError, match=r"gives \(5, 2\) for targets \(5, 1\)"):
        Regression().loss(output, target[:, :1])


def test_one_sample_has_no_r2() -> None:
    metrics = Regression().metrics(1)
    metrics.update(torch.ones(1, 1), torch.zeros(1, 1))
    assert math.isnan(metrics.compute()["r2"])
    assert Regression().reward(math.nan) == 0


def test_a_checkpoint_can_describe_it() -> None:
    assert type(rebuilt(describe(Regression()))) is Regression
