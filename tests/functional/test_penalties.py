import math

import pytest
import torch

from lightning_nas.functional.penalties import add_linear_loss, fbnet_loss, mnasnet_reward, mul_log_loss


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_fbnets_product() -> None:
    assert fbnet_loss(double(1.0), double(100.0), 0.2, 0.6).item() == pytest.approx(0.5000085, abs=1e-7)


def test_proxyless_product() -> None:
    loss = mul_log_loss(double(2.5), double(90.0), double(80.0), 0.2, 0.3)
    assert loss.item() == pytest.approx(0.5039944, abs=1e-7)
    assert mul_log_loss(double(2.5), double(80.0), double(80.0), 0.2, 0.3).item() == 0.5


def test_proxyless_sum() -> None:
    assert add_linear_loss(double(2.5), double(90.0), 80.0, 0.1).item() == 2.5125
    assert add_linear_loss(double(2.5), double(80.0), 80.0, 0.1).item() == 2.5


@pytest.mark.parametrize(
    ("accuracy", "latency", "alpha", "beta", "reward"),
    [
        (0.75, 78.0, -0.07, -0.07, 0.7479437),
        (0.75, 150.0, -0.07, -0.07, 0.7144785),
        (0.75, 75.0, -0.07, -0.07, 0.75),
        (0.75, 37.5, -0.07, -0.07, 0.7872875),
        (0.75, 78.0, 0.0, -1.0, 0.7211538),
        (0.75, 70.0, 0.0, -1.0, 0.75),
    ],
)
def test_mnasnets_reward(accuracy: float, latency: float, alpha: float, beta: float, reward: float) -> None:
    assert mnasnet_reward(accuracy, latency, 75.0, alpha, beta) == pytest.approx(reward, abs=1e-7)
    both = mnasnet_reward(double(accuracy), double(latency), 75.0, alpha, beta)
    assert both.item() == pytest.approx(reward, abs=1e-7)


def test_proxyless_reinforce_has_mnasnets_reward() -> None:
    assert mnasnet_reward(0.7, 90.0, 80.0, -0.1, -0.1) == pytest.approx(0.6918036, abs=1e-7)


def test_doubling_the_latency_is_worth_five_percent_of_accuracy() -> None:
    exponent = -math.log(1.05) / math.log(2)
    assert exponent == pytest.approx(-0.07, abs=4e-4)
    assert mnasnet_reward(1.05, 150.0, 75.0, exponent, exponent) == pytest.approx(1.0)


def test_gradients_agree_with_finite_differences() -> None:
    loss, latency = double(2.5).requires_grad_(), double(90.0).requires_grad_()
    for penalty in (
        lambda x, t: fbnet_loss(x, t, 0.2, 0.6),
        lambda x, t: mul_log_loss(x, t, double(80.0), 0.2, 0.3),
        lambda x, t: add_linear_loss(x, t, 80.0, 0.1),
        lambda x, t: x / mnasnet_reward(torch.ones_like(x), t, 80.0, -0.07, -0.2),
    ):
        assert torch.autograd.gradcheck(penalty, (loss, latency))
