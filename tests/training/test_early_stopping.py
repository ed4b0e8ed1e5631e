from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import fit
from lightning_nas.training.early_stopping import BestEpoch
from lightning_nas.training.network import NetworkTraining

TOLD = [0.2, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9]  # the second 0.5 is no better than the first


class Child(NetworkTraining):
    """Its validation figures are told, not measured."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", TOLD[self.current_epoch])

    def on_validation_epoch_end(self) -> None:
        pass


class Watch(Callback):
    """The network, batch norm's statistics included, at the end of every epoch."""

    def __init__(self) -> None:
        self.after = list[dict[str, Tensor]]()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.after.append({name: tensor.clone() for name, tensor in pl_module.network.state_dict().items()})


def trained(folder: Path, epochs: int, patience: int, resume: Path | None = None) -> tuple[Any, Watch, BestEpoch, int]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4))
    module = Child(network, Classification(), 4, seed=0, optimizer=partial(torch.optim.SGD, lr=0.1))
    watch, stop = Watch(), BestEpoch(Classification(), patience)
    callbacks: list[Callback] = [watch, stop]
    trainer = fit(module, ToyData(), folder, epochs=epochs, callbacks=callbacks, first=True, resume=resume)
    return network.state_dict(), watch, stop, trainer.current_epoch


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(("patience", "epochs", "best"), [(3, 5, 1), (4, 7, 5), (9, 7, 5)])
def test_it_ends_after_so_many_epochs_without_improvement_with_the_best_weights(
    patience: int, epochs: int, best: int, tmp_path: Path
) -> None:
    network, watch, stop, done = trained(tmp_path, 7, patience)
    assert (done, stop.best_epoch) == (epochs, best)
    assert same(network, watch.after[best])
    assert not same(network, watch.after[-1])


def test_a_resumed_training_goes_on_from_its_last_weights(tmp_path: Path) -> None:
    _, whole, _, _ = trained(tmp_path / "whole", 6, 9)
    trained(tmp_path / "cut", 4, 9)
    network, watch, _, _ = trained(tmp_path / "cut", 6, 9, tmp_path / "cut/checkpoints/last.ckpt")
    assert same(watch.after[-1], whole.after[-1])
    assert same(network, whole.after[5])


def test_one_that_had_ended_early_is_not_trained_further(tmp_path: Path) -> None:
    ended, *_ = trained(tmp_path, 7, 3)
    network, watch, stop, done = trained(tmp_path, 7, 3, tmp_path / "checkpoints/last.ckpt")
    assert (done, stop.best_epoch, watch.after) == (5, 1, [])
    assert same(network, ended)
