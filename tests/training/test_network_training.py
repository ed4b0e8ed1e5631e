import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.errors import ConfigError, InputError
from lightning_nas.ops.cells import DropPath
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.training.network import NetworkTraining
from lightning_nas.training.seeding import seeded


class TwoHeads(nn.Module):
    """A linear classifier and, in training, another, behind a path that may be dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.path, self.main, self.other = DropPath(), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.path(x).flatten(1)
        return (self.main(x), self.other(x)) if self.training else self.main(x)


def child(**options: float) -> NetworkTraining:
    with seeded(0, "network"):
        network = TwoHeads()
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return NetworkTraining(
        network, Classification(), 4, seed=0, optimizer=optimizer, **{"auxiliary_weight": 0.4} | options
    )


def test_the_auxiliary_loss_is_added_with_its_weight_in_training_alone(tmp_path: Path) -> None:
    module, expected = child(), []

    def compute(_: object, __: object, batch: tuple[Tensor, Tensor], ___: object) -> None:
        logits, other = module.network(batch[0])
        losses = F.cross_entropy(logits, batch[1]), F.cross_entropy(other, batch[1])
        expected.append((losses[0] + 0.4 * losses[1]).item())

    with one_thread():
        fit(module, ToyData(), tmp_path, epochs=1, callbacks=[LambdaCallback(on_train_batch_start=compute)])
        rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert len(losses) > 5
    data = ToyData()
    data.setup("fit")
    outputs = [(module.network.eval()(x), y) for x, y in data.evaluation_loader("val")]
    alone = F.cross_entropy(torch.cat([o for o, _ in outputs]), torch.cat([y for _, y in outputs])).item()
    assert [float(row["val/loss"]) for row in rows if row["val/loss"]] == [pytest.approx(alone, rel=1e-5)]


def test_paths_are_dropped_more_from_epoch_to_epoch_and_resuming_is_exact(tmp_path: Path) -> None:
    probabilities: list[float] = []
    module = child(drop_path=0.2)
    watch = LambdaCallback(on_train_batch_end=lambda *_: probabilities.append(module.network.path.probability))
    with one_thread():
        trainer = fit(module, ToyData(), tmp_path, epochs=4, callbacks=[watch])
        assert [probabilities[0], probabilities[-1]] == pytest.approx([0.0, 0.2 * 3 / 4])
        assert sorted({round(p, 9) for p in probabilities}) == pytest.approx([0.0, 0.05, 0.1, 0.15])
        checkpoints = sorted((tmp_path / "checkpoints").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
        again = child(drop_path=0.2)
        resumed = fit(again, ToyData(), tmp_path / "again", epochs=4, resume=checkpoints[len(checkpoints) // 2 + 1])
    same = ("parameters and buffers", "optimisers", "counters")
    ours, theirs = fingerprint(resumed, again, tmp_path / "again"), fingerprint(trainer, module, tmp_path)
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def test_by_the_step_the_last_one_drops_as_many_paths_as_asked_for(tmp_path: Path) -> None:
    probabilities: list[float] = []
    module = child(drop_path=0.2, drop_path_interval="step")
    watch = LambdaCallback(on_train_batch_end=lambda *_: probabilities.append(module.network.path.probability))
    with one_thread():
        fit(module, ToyData(), tmp_path, epochs=2, callbacks=[watch])
    steps = len(probabilities)
    assert probabilities == pytest.approx([0.2 * (step + 1) / steps for step in range(steps)])


def test_a_network_without_paths_cannot_drop_them() -> None:
    with pytest.raises(InputError, match="in a Linear; leave drop_path=0"):
        NetworkTraining(nn.Linear(2, 2), Classification(), 2, seed=0, optimizer=torch.optim.SGD, drop_path=0.1)


FLAGS = [("gradient_clip_val", "retrain.clip"), ("accumulate_grad_batches", "batch")]


@pytest.mark.parametrize(("flag", "ours"), FLAGS)
def test_flags_of_the_trainer_that_mean_nothing_are_refused(flag: str, ours: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=ours):
        fit(child(), ToyData(), tmp_path, epochs=1, **{flag: 2})
