import copy

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from lightning_nas.training.schedules import LinearWarmup, WarmupThenCosine


def optimizer(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates(schedule: torch.optim.lr_scheduler.LRScheduler, epochs: int) -> list[float]:
    seen = []
    for _ in range(epochs):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_each_part_is_torchs_cosine() -> None:
    whole = rates(WarmupThenCosine(optimizer(0.025), T_max=9, warmup_epochs=3, warmup_lr=0.05), 9)
    parts = [(0.05, 3), (0.025, 6)]
    expected = [rate for lr, epochs in parts for rate in rates(CosineAnnealingLR(optimizer(lr), epochs), epochs)]
    assert whole == pytest.approx(expected)


def test_it_goes_on_where_a_checkpoint_left_it() -> None:
    schedule = WarmupThenCosine(optimizer(1.0), T_max=6, warmup_epochs=2, warmup_lr=2.0)
    rates(schedule, 3)
    again = WarmupThenCosine(optimizer(1.0), T_max=6, warmup_epochs=2, warmup_lr=2.0)
    again.load_state_dict(copy.deepcopy(schedule.state_dict()))
    assert rates(again, 3) == pytest.approx(rates(schedule, 3))


def test_a_warmed_up_rate_is_torchs_from_the_last_epoch_of_the_warm_up_on() -> None:
    for fall, torchs in (
        ("cosine", CosineAnnealingLR(optimizer(0.5), 10)),
        ("linear", LinearLR(optimizer(0.5), 1.0, 0.0, 10)),
    ):
        ours, truth = rates(LinearWarmup(optimizer(0.5), T_max=10, warmup_epochs=5, fall=fall), 10), rates(torchs, 10)  # type: ignore[arg-type]
        assert ours[4:] == pytest.approx(truth[4:])
        assert [a / b for a, b in zip(ours[:5], truth, strict=False)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
