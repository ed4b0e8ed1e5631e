"""The schedules of every strategy with shared weights, at the end of short and of very long searches."""

from collections.abc import Iterator
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from strategies_of_conf import toy_for

import lightning_nas as ln
from lightning_nas.functional.relaxation import entropies, gumbel_noise, gumbel_softmax
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.uniform import UniformPaths
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import fit, one_thread

PUBLIC = (getattr(ln, name) for name in dir(ln))
KINDS = sorted(
    {k for k in PUBLIC if isinstance(k, type) and issubclass(k, SearchModule) and k is not ln.DifferentiableSearch}
    - {SearchModule},
    key=lambda kind: kind.__name__,
)
LEAST = 1e-3  # a probability moves by more in an epoch of seven steps


class From(Callback):
    """Lets a search begin with a later epoch, all schedules where they are by then."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.fit_loop.epoch_progress.current
        done.ready = done.started = done.processed = done.completed = self.epoch
        for schedule in trainer.lr_scheduler_configs:
            for _ in range(self.epoch):
                schedule.scheduler.step()  # type: ignore[call-arg]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def made(kind: type[SearchModule], epochs: int) -> SearchModule:
    """A strategy with its own settings, but architecture steps as large as their gradients."""
    settings: dict[str, Any] = {
        "table": Macs()(toy_for(kind)),
        "arch_optimizer": partial(torch.optim.SGD, lr=1.0),
        "path_batches": 1,
        "stage_epochs": max(1, epochs // 3),
        "arch_warmup_epochs": 0,
        "warmup_epochs": 0,
    }
    if epochs < 3:  # P-DARTS in one stage
        settings |= {"added_cells": (0,), "dropped": (), "skip_dropout": (0.4,)}
    known = signature(kind).parameters
    return kind(toy_for(kind), **{name: value for name, value in settings.items() if name in known})


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("epochs", [1, 12, 60, 600])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_epoch_learns_and_is_finite(kind: type[SearchModule], epochs: int, tmp_path: Path) -> None:
    module = made(kind, epochs)
    before = {group: rows.clone() for group, rows in module.probabilities().items()}
    weights = [parameter.detach().clone() for parameter in module.weight_parameters()]
    options: dict[str, Any] = {"every": 1000, "limit_val_batches": 0, "callbacks": [From(epochs - 1)]}
    fit(module, ToyData(), tmp_path, epochs=epochs, **options)
    module.check_parameters()
    assert any(not torch.equal(a, b) for a, b in zip(weights, module.weight_parameters(), strict=True))
    assert all(count > 0 for count in module.steps_taken.values())
    after = module.probabilities()
    moved = max(float((rows - before[group]).abs().max()) for group, rows in after.items())
    assert isinstance(module, UniformPaths) or moved > LEAST


@pytest.mark.parametrize("temperature", [0.01, 10_000.0])
def test_gates_of_any_legal_temperature_and_their_gradients_are_finite(temperature: float) -> None:
    for scale in (1e-3, 1.0, 100.0):
        logits = (torch.randn(50, 9) * scale).requires_grad_()
        gates = gumbel_softmax(logits, gumbel_noise(logits.shape, torch.Generator().manual_seed(1)), temperature)
        gates.square().sum().backward()
        assert logits.grad is not None
        assert bool(logits.grad.isfinite().all())
        assert bool(entropies(gates.detach()).isfinite().all())


def test_noise_is_finite_where_torch_draws_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator: self.zero_())
    assert bool(gumbel_noise(torch.Size([3]), torch.Generator()).isfinite().all())
