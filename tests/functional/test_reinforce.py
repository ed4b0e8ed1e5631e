import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from lightning_nas.functional.reinforce import bounded_logits, connection_divergence, moving_baselines, ppo_loss


def test_the_baseline_moves_as_in_the_authors_code() -> None:
    rewards, baseline, decay = torch.rand(7, generator=torch.Generator().manual_seed(0)), 0.3, 0.99
    expected = []
    for reward in rewards.tolist():
        baseline -= (1 - decay) * (baseline - reward)
        expected.append(baseline)
    torch.testing.assert_close(moving_baselines(rewards, 0.3, decay), torch.tensor(expected))


def test_the_divergence_is_that_of_coins_and_nothing_at_the_wanted_share() -> None:
    logit = torch.tensor([-1.3, 0.2, 2.0])
    logits = torch.stack([-logit, logit], -1)  # as the controller makes them
    expected = kl_divergence(Bernoulli(logits=logit), Bernoulli(torch.tensor(0.4))).sum()
    torch.testing.assert_close(connection_divergence(logits, 0.4), expected)
    wanted = torch.tensor([[0.6, 0.4]]).logit().expand(5, 2, 2)
    torch.testing.assert_close(connection_divergence(wanted, 0.4), torch.zeros(5))


def test_logits_are_bounded_and_their_order_kept() -> None:
    logits = torch.linspace(-20, 20, 9)
    bounded = bounded_logits(logits, 5.0, 2.5)
    torch.testing.assert_close(bounded, 2.5 * torch.tanh(logits / 5))
    assert bounded.abs().max() <= 2.5
    assert (bounded.diff() > 0).all()
    assert bounded_logits(logits, None, None) is logits


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [  # epsilon is 0.2; the slope is that in the logarithm of the probability
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),
        (0.5, 2.0, 1.0, 1.0),
        (1.1, -2.0, -2.2, -2.2),
        (1.5, -2.0, -3.0, -3.0),
        (0.5, -2.0, -1.6, 0.0),
    ],
)
def test_ppos_objective_is_clipped_where_it_would_reward_going_on(
    ratio: float, advantage: float, objective: float, slope: float
) -> None:
    before = torch.tensor([-1.7], dtype=torch.float64)
    logs = (before + torch.tensor(ratio, dtype=torch.float64).log()).requires_grad_()
    loss = ppo_loss(logs, before, torch.tensor([advantage], dtype=torch.float64), clip=0.2)
    loss.backward()
    assert (-loss.item(), -logs.grad.item()) == pytest.approx((objective, slope))
