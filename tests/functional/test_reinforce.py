import torch
from torch.distributions import Bernoulli, kl_divergence

from lightning_nas.functional.reinforce import bounded_logits, connection_divergence, moving_baselines


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
