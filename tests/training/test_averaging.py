from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from lightning_nas.errors import ConfigError
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import fit
from lightning_nas.training.averaging import NonMonotonicAveraging
from lightning_nas.training.network import NetworkTraining

TOLD = [3.0, 2.0, 2.5, 2.4, 2.6, 2.6, 2.0]


class Child(NetworkTraining):
    """Its validation losses are told, not measured."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", TOLD[self.current_epoch])

    def on_validation_epoch_end(self) -> None:
        pass


class Watch(Callback):
    """The weights after every step and in every validation."""

    def __init__(self) -> None:
        self.after, self.validated = list[torch.Tensor](), list[torch.Tensor]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.after.append(pl_module.network[1].weight.detach().clone())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.validated.append(pl_module.network[1].weight.detach().clone())


def child(optimizer: Any) -> NetworkTraining:
    torch.manual_seed(0)
    return Child(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), Classification(), 4, seed=0, optimizer=optimizer)


ASGD = partial(torch.optim.ASGD, lr=0.1, lambd=0.0, t0=1e12, weight_decay=1e-3)


def test_steps_are_sgd_before_the_switch_and_averages_afterwards(tmp_path: Path) -> None:
    # 2.6 is the first loss above the lowest of all before it but the last two: 3.0, 2.0, and then 2.5, 2.4
    watch, averaging, switch = Watch(), NonMonotonicAveraging(2), 4
    module, plain = child(ASGD), child(partial(torch.optim.SGD, lr=0.1, weight_decay=1e-3))
    fit(module, ToyData(), tmp_path / "a", epochs=7, callbacks=[watch, averaging], first=True)
    sgd = Watch()
    fit(plain, ToyData(), tmp_path / "b", epochs=7, callbacks=[sgd])
    for ours, theirs in zip(watch.after, sgd.after, strict=True):
        torch.testing.assert_close(ours, theirs)
    epoch = len(watch.after) // 7
    passed = torch.stack(watch.after[(switch + 1) * epoch + 1 :])  # ASGD's mean begins with the second
    assert averaging.averages
    for i, validated in enumerate(watch.validated):
        if i <= switch:
            assert torch.equal(validated, watch.after[(i + 1) * epoch - 1])
    torch.testing.assert_close(watch.validated[-1], passed.mean(0))
    assert torch.equal(averaging._last[0], watch.after[-1]), "training goes on from the weights themselves"
    torch.testing.assert_close(module.network[1].weight, passed.mean(0))
    saved = torch.load(tmp_path / "a" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["network.1.weight"], module.network[1].weight)


def test_a_longer_training_goes_on_from_the_weights_not_their_mean(tmp_path: Path) -> None:
    whole, more = Watch(), Watch()
    fit(child(ASGD), ToyData(), tmp_path / "whole", epochs=7, callbacks=[NonMonotonicAveraging(2), whole], first=True)
    fit(child(ASGD), ToyData(), tmp_path / "short", epochs=6, callbacks=[NonMonotonicAveraging(2)], first=True)
    last = tmp_path / "short" / "checkpoints" / "last.ckpt"
    fit(
        child(ASGD),
        ToyData(),
        tmp_path / "short",
        epochs=7,
        resume=last,
        callbacks=[NonMonotonicAveraging(2), more],
        first=True,
    )
    for one, other in zip(reversed(whole.after), reversed(more.after), strict=False):
        assert torch.equal(one, other)


def test_another_optimiser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"average_after needs.*ASGD, not SGD"):
        fit(child(partial(torch.optim.SGD, lr=0.1)), ToyData(), tmp_path, callbacks=[NonMonotonicAveraging(2)])
