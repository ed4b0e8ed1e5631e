import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.text import Perplexity

from lightning_nas.ops.recurrent import Window
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.tasks.language_modelling import LanguageModelling


@pytest.fixture
def network() -> nn.Module:
    space = DARTSRNNSpace("tiny", bptt=5, num_classes=9, width=6, steps=2).evaluation()
    network = space.network(space.sample(torch.Generator().manual_seed(0)))
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return network


def batches(lengths: tuple[int, ...] = (5, 5, 3)) -> list[tuple[torch.Tensor, torch.Tensor]]:
    text = torch.randint(9, (2, sum(lengths) + 1), generator=torch.Generator().manual_seed(0))
    x, y = text[:, :-1].split(lengths, 1), text[:, 1:].split(lengths, 1)
    return list(zip(x, y, strict=True))


def test_perplexity_of_two_words_by_hand() -> None:
    metrics = LanguageModelling().metrics(2)
    logits = torch.tensor([[[0.8, 0.2], [0.5, 0.5]]]).log()
    metrics.update(logits, torch.tensor([[0, 1]]))
    assert float(metrics.compute()["ppl"]) == pytest.approx((0.8 * 0.5) ** -0.5)


def test_perplexity_is_torchmetrics_over_uneven_batches() -> None:
    ours, theirs = LanguageModelling().metrics(9), Perplexity()
    for x, y in batches():
        logits = torch.randn(*x.shape, 9, generator=torch.Generator().manual_seed(len(y)))
        ours.update(logits, y)
        theirs.update(logits, y)
    assert float(ours.compute()["ppl"]) == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_perplexity_of_a_long_text_is_that_of_float64() -> None:
    logits, words = torch.randn(64, 35, 50), torch.randint(50, (64, 35))
    exact = F.cross_entropy(logits.double().flatten(0, 1), words.flatten()).exp()
    metric = LanguageModelling().metrics(50)["ppl"]
    for _ in range(500):
        metric.update(logits, words)
    assert float(metric.compute()) == pytest.approx(float(exact), rel=1e-6)


def test_evaluation_carries_the_state_as_if_the_text_were_one_window(network: nn.Module) -> None:
    task, parts = LanguageModelling(), batches()
    x, y = (torch.cat(rows, 1) for rows in zip(*parts, strict=True))
    network.eval()
    expected = math.exp(F.cross_entropy(network(x).flatten(0, 1), y.flatten()).item())
    assert task.evaluate(network, parts, 9) == pytest.approx(expected, rel=1e-5)
    assert task.score(network, parts, 9) == pytest.approx(1 / expected, rel=1e-5)
    apart = task.evaluate(network, parts[:1], 9), task.evaluate(network, parts[1:], 9)
    assert apart[1] != pytest.approx(expected, rel=1e-3)


def test_a_better_network_scores_higher_and_one_that_is_nan_lowest(network: nn.Module) -> None:
    task, parts = LanguageModelling(), batches()
    before = task.score(network, parts, 9)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(20):
        for x, y in parts:
            optimizer.zero_grad()
            task.loss(network(x), y).backward()
            optimizer.step()
    assert task.score(network, parts, 9) > before
    nn.init.constant_(network.bias, math.nan)
    assert task.score(network, parts, 9) == 0.0


def test_slowness_is_the_mean_squared_change_of_the_hidden_state(network: nn.Module) -> None:
    (x, y), *_ = batches()
    network.eval()
    window = Window(x)
    output = network(window)
    seen = torch.stack(
        [network.cell(network.embedding(x[:, :t]), torch.zeros(2, 6), None, None)[:, -1] for t in range(1, 6)]
    )
    change = (seen[1:] - seen[:-1]).square().mean()
    loss = LanguageModelling(slowness=0.5).training_loss(output, (window, y))
    torch.testing.assert_close(loss, F.cross_entropy(output.flatten(0, 1), y.flatten()) + 0.5 * change)
    assert LanguageModelling(slowness=0.5).loss(output, y) < loss


def test_the_reward_is_c_over_the_perplexity_and_0_for_nan() -> None:
    task = LanguageModelling(reward_scale=80.0)
    assert [task.reward(ppl) for ppl in (80.0, 160.0, math.inf, math.nan)] == [1.0, 0.5, 0.0, 0.0]
