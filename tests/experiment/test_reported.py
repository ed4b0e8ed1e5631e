"""The figure of a retrained network is recomputed by hand from the files that the run leaves."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import ASGD

import lightning_nas as ln
from lightning_nas.ops.recurrent import Window
from lightning_nas.testing.training import one_thread
from lightning_nas.training.averaging import NonMonotonicAveraging

QUIET = {"latency_table": "none", "callbacks": "none", "logger": "none", "stages": ["retrain"]}
AVERAGED = partial(ASGD, lr=1.0, lambd=0.0, t0=1e12)
FEW = {"limit_train_batches": 4, "limit_val_batches": 2, "check_val_every_n_epoch": 1}
IMAGES = {"data": "digits", "space": "fbnet_small", "strategy": "random_ws"}
WORDS = {"data": "text", "space": "darts_rnn_small", "strategy": "random_ws", "task": "language_modelling"}


class Early(NonMonotonicAveraging):
    """Averages from the second epoch."""

    def __init__(self, patience: int) -> None:
        super().__init__(patience)
        self.losses = [0.0, 0.0]


def accuracy(network: nn.Module, batches: Any) -> float:
    right = [(network(x).argmax(-1) == y) for x, y in batches]
    return torch.cat(right).double().mean().item()


def perplexity(network: nn.Module, batches: Any) -> float:
    losses, memory = [], None
    for x, y in batches:
        window = Window(x, memory)
        losses.append(F.cross_entropy(network(window).flatten(0, -2), y.flatten(), reduction="none"))
        memory = window.after
    return math.exp(torch.cat(losses).double().mean().item())


@pytest.mark.parametrize(
    ("parts", "retrain", "averages"),
    [
        (IMAGES, {}, False),
        (IMAGES, {"optimizer": AVERAGED, "average_after": 1}, True),
        (WORDS, {"optimizer": AVERAGED, "average_after": 1, "clip": 0.25}, True),
    ],
    ids=["images", "images, averaged", "words, averaged"],
)
def test_the_reported_figure_is_that_of_the_saved_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], retrain: dict[str, Any], averages: bool
) -> None:
    monkeypatch.setattr("lightning_nas.experiment.retrain.NonMonotonicAveraging", Early)
    with one_thread():
        run = ln.Run(tmp_path, **parts, **QUIET, trainer=FEW)
        run.retraining = replace(run.retraining, epochs=3, scheduler=None, **retrain)
        run.retrain(run.space.sample(torch.Generator().manual_seed(0)))
    saved = torch.load(tmp_path / "retrain" / "checkpoints" / "last.ckpt", weights_only=True)
    if "average_after" in retrain:
        assert saved["callbacks"]["Early"]["averages"] == averages
    result = run.result
    architecture = ln.Architecture.from_dict(result["architecture"])
    network = run.space.evaluation().network(architecture, num_classes=run.data.num_classes).eval()
    state = {name.removeprefix("network."): value for name, value in saved["state_dict"].items()}
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    with torch.no_grad():
        batches = run.data.evaluation_loader("test")
        if parts is IMAGES:
            assert accuracy(network, batches) == pytest.approx(result["test_acc"], abs=1e-6)
        else:
            assert perplexity(network, batches) == pytest.approx(result["test_ppl"], rel=1e-6)
