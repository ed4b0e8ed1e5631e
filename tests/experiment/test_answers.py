"""The answer in a result: the steps behind it, ties, untouched choices, and lengths that do not agree."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

import lightning_nas as ln
from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.callbacks.short_warm_up import ShortWarmUp
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.lengths import check_schedule, check_search
from lightning_nas.experiment.search import doubts, steps_of
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.base import Batch
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.schedules import LinearWarmup, WarmupThenCosine

SMALL = partial(ToyData, 304, val_fraction=0.15)
MADE: dict[str, Callable[[], SearchModule]] = {
    "fbnet": lambda: ln.FBNet(ToySpace(), table=Macs()(ToySpace()), arch_warmup_epochs=0),
    "mdenas": lambda: ln.MdeNAS(ToySpace(), warmup_epochs=1, path_batches=3),
    "random_ws": lambda: ln.RandomWS(ToySpace(), candidates=2),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fbnet", (8, 8, None)), ("mdenas", (8, 1, None)), ("random_ws", (16, None, None))],
)
def test_the_steps_are_those_that_the_optimisers_and_the_rule_took(
    name: str, expected: tuple[int | None, ...], tmp_path: Path
) -> None:
    module, steps = MADE[name](), list[str]()
    for method in ("_apply_arch", "_end_turn"):
        if own := getattr(module, method, None):
            setattr(module, method, lambda *given, own=own: (steps.append("architecture"), own(*given)))
    fit(module, SMALL(), tmp_path, epochs=2, every=1000)
    assert tuple(steps_of(module).values()) == expected
    assert len(steps) == (expected[1] or 0)


@pytest.mark.parametrize(
    "make",
    [
        partial(ln.DARTS, arch_warmup_epochs=1),
        partial(ln.GDAS, arch_warmup_epochs=1),
        partial(ln.FBNet, table=Macs()(ToySpace(6)), arch_warmup_epochs=1),
        partial(ln.ProxylessNAS, table=Macs()(ToySpace(6)), arch_warmup_epochs=1),
        ln.RandomWS,
        partial(ln.ENAS, samples=2, arch_warmup_epochs=1),
        partial(ln.MdeNAS, path_batches=2, warmup_epochs=1),
        ln.SPOS,
        partial(ln.SPOS, sampling="fair"),
    ],
)
def test_the_updates_of_options_are_those_that_gradients_made(
    make: Callable[..., SearchModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(ToySpace(6))
    own, seen = module.weights_backward, list[bool]()
    trainable = [part for name, part in module.supernet.named_parameters() if name.endswith("keep.conv.weight")]

    def watched(batch: Batch) -> Tensor:
        for weight in trainable:
            weight.grad = None
        loss = own(batch)
        seen.extend(weight.grad is not None and bool(weight.grad.any()) for weight in trainable)
        return loss

    monkeypatch.setattr(module, "weights_backward", watched)
    fit(module, ToyData(), tmp_path, epochs=2, every=1000)
    assert len(trainable) == 6
    assert module.updates == pytest.approx(sum(seen) / 6, rel=0.25)


def test_trials_are_steps_of_their_own() -> None:
    module = RandomSearch(ToySpace())
    assert steps_of(module) == {"weights": None, "architecture": None, "trials": 0}


class Stop(Callback):
    """Ends the search after its first epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = True


def test_an_early_end_and_choices_that_no_step_moved_are_said(tmp_path: Path) -> None:
    module = ln.DARTS(ToySpace(), arch_warmup_epochs=0, arch_optimizer=partial(SGD, lr=0.0))
    trainer = fit(module, SMALL(), tmp_path, epochs=3, every=1000, callbacks=[Stop()])
    said = doubts(module, trainer, module.answer())
    few = "about 4 steps of the weights, too few to compare options: give trainer.max_epochs more"
    assert said == [
        "the search ended after 1 of 3 epochs: its schedules were made for all of them",
        f"each option was trained in {few}",
        "the architecture took 4 steps, too few to decide between options: give trainer.max_epochs more",
        "2 of 2 choices are as undecided as at the beginning, no step moved them: layer_1, layer_2",
    ]
    assert doubts(module, trainer, module.answer(), early=True) == said[1:]


def test_a_tie_is_said_and_a_sound_search_raises_no_doubt(tmp_path: Path) -> None:
    module = ln.DARTS(ToySpace(), arch_warmup_epochs=0)
    trainer = fit(module, SMALL(), tmp_path, epochs=8, every=1000)
    assert module.updates == 32
    assert doubts(module, trainer, module.answer()) == []
    with torch.no_grad():
        module.theta["layers"][1].fill_(0.5)
    [said] = doubts(module, trainer, module.answer())
    assert said == "1 of 2 choices have several options of the same largest probability: layer_2"


@pytest.mark.parametrize(
    ("strategy", "epochs", "message"),
    [
        (ln.FBNet, 2, "strategy.arch_warmup_epochs=2 .*trainer.max_epochs=2"),
        (ln.ProxylessNAS, 6, "strategy.arch_warmup_epochs=10 "),
        (partial(ln.MdeNAS, warmup_epochs=60), 60, "strategy.warmup_epochs=60 "),
        (ln.PDARTS, 2, "stage_epochs=4, .*3 stages has max_epochs=12"),
        (partial(ln.PDARTS, arch_warmup_epochs=4), 12, "no architecture step can be taken"),
        (partial(ln.FBNet, anneal=0.82), 100, "temperature to 1.47e-08 .*strategy.anneal=null"),
        (partial(ln.SPOS, weights_scheduler=partial(LinearWarmup, T_max=9, warmup_epochs=5)), 4, "warmup_epochs=5 is"),
        (ln.SPOS, None, "max_epochs=None"),
        (ln.RandomSearch, 3, "has one epoch"),
    ],
)
def test_settings_alone_tell_that_lengths_do_not_agree(strategy: Any, epochs: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_search(strategy, epochs)


def test_lengths_that_agree_pass_and_a_debugging_run_is_shortened() -> None:
    assert check_search(ln.FBNet, 12) == check_search(ln.PDARTS, 12) == check_search(ln.RandomSearch, 1) == []
    assert check_search(ln.PDARTS, 2, ShortWarmUp(1).longest_warm_up) == []
    assert check_search(lambda *_: ln.FBNet, 1) == []  # nothing is known of it


def test_an_early_stop_that_cannot_happen_is_refused() -> None:
    early = SearchHealth(2, iterations=1, early_stop=True, window=3, first_epoch=4)
    early.check_length(10)  # records after epochs 2, 4, 6, 8 and 10
    with pytest.raises(ConfigError, match=r"5 records, .* every_n_epochs=2 makes 4"):
        early.check_length(8)
    SearchHealth(2, window=3).check_length(2)


def test_a_schedule_of_another_length_is_doubtful() -> None:
    made = partial(CosineAnnealingLR, T_max=50)
    assert check_search(partial(ln.DARTS, weights_scheduler=made), 50) == []
    [said] = check_search(partial(ln.DARTS, weights_scheduler=made), 12)
    assert (
        said
        == "strategy.weights_scheduler.T_max=50 is not trainer.max_epochs=12: the training ends before the rate does"
    )
    rates = partial(WarmupThenCosine, T_max=4, warmup_epochs=1, warmup_lr=1.0)
    assert "retrain.scheduler.T_max=4 is not retrain.epochs=9" in str(
        check_schedule("retrain.scheduler", rates, 9, "retrain.epochs")
    )
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = rates(optimizer)
    for _ in range(8):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == [0.0]  # what the doubt is about: five of nine epochs learn nothing
