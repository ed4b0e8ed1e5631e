"""The regulariser of beta-DARTS in every strategy whose gates are a softmax of logits."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import get_class
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim import SGD

from lightning_nas.cli.command import conf_dir
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.fair_darts import FairDARTS
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.seeding import seeded

STRATEGIES = sorted(file.stem for file in (Path(conf_dir()) / "strategy").glob("*.yaml"))
MORE: dict[str, list[dict[str, Any]]] = {
    "darts": [{"order": "first"}, {"order": "second"}],
    "p_darts": [{"stage_epochs": 1, "added_cells": (0, 0), "dropped": (1,), "skip_dropout": (0.0, 0.0)}],
    "pc_darts": [{"k": 2}],
    "proxyless": [{"update": "full", "penalty": None}, {"update": "reinforce", "penalty": None, "samples": 2}],
}


def kind(name: str) -> type:
    return get_class(yaml.safe_load((Path(conf_dir()) / "strategy" / f"{name}.yaml").read_text("utf-8"))["_target_"])


KINDS = {name: found for name in STRATEGIES if issubclass(found := kind(name), DifferentiableSearch)}
CASES = [(name, more) for name, found in KINDS.items() if found.softmax for more in MORE.get(name, [{}])]


class Gradients(Callback):
    """The logits and their gradients at the first architecture step of the second epoch."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, DifferentiableSearch)
        if trainer.current_epoch == 1 and not hasattr(self, "seen") and optimizer is trainer.optimizers[1]:
            theta = pl_module.logits("layers")
            assert theta.grad is not None
            self.seen = theta.detach().clone(), theta.grad.clone(), pl_module.competing("layers").detach().clone()


def searched(found: type, folder: Path, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, gradients and competing logits after an epoch without decay; the logits stay as they began."""
    frozen = partial(SGD, lr=0.0)
    given: dict[str, Any] = {**PLAIN_ARCH, "weights_optimizer": partial(SGD, lr=0.05), "arch_optimizer": frozen}
    with seeded(0, "supernet"):
        module = found(ToySpace(), None, Macs()(ToySpace()), **given | {"theta_std": 1.0} | options)
    watch = Gradients()
    fit(module, ToyData(304, val_fraction=0.15), folder, epochs=2, every=1000, callbacks=[watch], limit_val_batches=0)
    return watch.seen


@pytest.mark.parametrize(("name", "more"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_the_gradient_gains_the_softmax_of_the_logits(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    with one_thread():
        theta, plain, competing = searched(KINDS[name], tmp_path / "plain", **more)
        same, decayed, _ = searched(KINDS[name], tmp_path / "decayed", **more, beta_decay=8.0)
    assert torch.equal(theta, same)
    expected = 8.0 * (1 / 2) * competing.softmax(-1) / len(theta)  # in epoch 1 of 2, the mean over choices
    torch.testing.assert_close(decayed - plain, expected, rtol=1e-3, atol=1e-4)
    assert float(expected.max()) > 0.5


def test_it_is_linear_in_the_epoch_and_logged(tmp_path: Path) -> None:
    module = DARTS(ToySpace(), **PLAIN_ARCH, beta_decay=12.0)
    weights: list[tuple[float, float]] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            weights.append((module.decay_weight, float(trainer.callback_metrics["arch/beta_decay"])))

    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=3, every=1000, callbacks=[Watch()])
    assert sorted(set(weights)) == [(0.0, 0.0), (4.0, 4.0), (8.0, 8.0)]


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: FairDARTS(ToySpace(), beta_decay=1.0), "FairDARTS has not"),  # type: ignore[call-arg]
    (lambda: ProxylessNAS(ToySpace(), update="two_path", beta_decay=1.0), "update=full or reinforce"),
    (lambda: DARTS(ToySpace(), beta_decay=-1.0), "legal: float >= 0"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_it_is_refused_where_it_has_no_meaning(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_dropped_options_have_no_share(tmp_path: Path) -> None:
    module = PDARTS(ToySpace())
    module.kept_options("layers")[0, 1] = False
    rows = module.competing("layers").logsumexp(-1)
    [gradient] = torch.autograd.grad(rows.sum(), module.theta["layers"])
    assert gradient[0, 1] == 0
    torch.testing.assert_close(gradient.sum(-1), torch.ones(2))
