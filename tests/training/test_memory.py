"""Searching and training on text: the hidden state goes on from batch to batch, and through a resume, to the bit."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lightning_nas.data.text import TextData
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.training import digest, fingerprint, fit, one_thread
from lightning_nas.training.averaging import NonMonotonicAveraging
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.network import NetworkTraining
from lightning_nas.training.seeding import seeded


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def data(tmp_path: Path) -> TextData:
    words = torch.randint(20, (220,), generator=torch.Generator().manual_seed(0)).tolist()
    file = tmp_path / "text.txt"
    file.write_text(" ".join(f"w{i}" for i in words))
    data = TextData(path=str(file), bptt=5, batch_size=4, eval_batch_size=2, arch_fraction=0.4, random_length=True)
    data.setup()
    return data


def space(data: TextData) -> DARTSRNNSpace:
    return DARTSRNNSpace("tiny", bptt=5, num_classes=data.num_classes, width=6, steps=2)


def search(data: TextData, **options: Any) -> FBNet:
    own = space(data)
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "alternate": "batch",
        "weights_optimizer": partial(torch.optim.SGD, lr=1.0),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1),
        "weights_clip": 0.25,
        "calibration_batches": 2,
        "score_batches": 2,
        "candidates": 2,
    }
    with seeded(4, "supernet"):
        return FBNet(own, LanguageModelling(1e-3), Macs()(own), seed=4, **defaults | options)


def child(data: TextData, lr: float = 60.0) -> NetworkTraining:
    own = space(data).evaluation()
    with seeded(4, "child"):
        network = own.network(own.sample(torch.Generator().manual_seed(0)))
    optimizer = partial(torch.optim.ASGD, lr=lr, lambd=0.0, t0=1e12)
    return NetworkTraining(network, LanguageModelling(1e-3), own.num_classes, seed=4, optimizer=optimizer, clip=0.25)


@pytest.mark.parametrize(
    ("make", "callbacks", "epochs"),
    [
        (search, list, 2),
        (partial(search, alternate="epoch", accumulate=2), list, 2),
        (child, lambda: [NonMonotonicAveraging(1)], 4),
    ],
    ids=["search by batch", "search by epoch", "retraining"],
)
def test_resuming_from_any_batch_equals_never_having_stopped(
    make: Callable[[TextData], ResumableModule],
    callbacks: Callable[[], list[Callback]],
    epochs: int,
    data: TextData,
    tmp_path: Path,
) -> None:
    whole, module = tmp_path / "whole", make(data)
    trainer = fit(module, data, whole, epochs=epochs, callbacks=callbacks())
    expected = fingerprint(trainer, module, whole)
    checkpoints = sorted((whole / "checkpoints").glob("*.ckpt"))
    assert len(checkpoints) == module.position
    remembering = [file for file in checkpoints if load_checked(file)["lightning_nas"]["memories"]]
    assert len(remembering) == len(checkpoints) - epochs  # not before the first batch of an epoch, nor at the end
    if isinstance(module, NetworkTraining):
        assert any(state.get("averages") for state in load_checked(checkpoints[-1])["callbacks"].values())
    for checkpoint in checkpoints[:: 1 + len(checkpoints) // 10]:
        folder = tmp_path / checkpoint.stem
        folder.mkdir()
        shutil.copy(whole / "metrics.csv", folder)
        again = make(data)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.add_(1.0)
        trainer = fit(again, data, folder, epochs=epochs, resume=checkpoint, callbacks=callbacks())
        assert fingerprint(trainer, again, folder) == expected, f"differs after resuming from {checkpoint.name}"


def test_each_stream_goes_on_where_its_own_last_window_ended(data: TextData, tmp_path: Path) -> None:
    module, seen = search(data, arch_every=2), list[dict[str, Any]]()

    class Watch(Callback):
        def on_train_batch_end(self, t: Any, m: Any, outputs: Any, batch: Any, i: int) -> None:
            seen.append({stream: x for stream, (x, _) in batch.items()})

    fit(module, data, tmp_path, epochs=1, callbacks=[Watch()])
    assert [windows["weights"].before is None for windows in seen] == [True] + [False] * (len(seen) - 1)
    for one, following in pairwise(seen):
        assert torch.equal(one["weights"].after, following["weights"].before)
        assert not following["weights"].before.requires_grad
    assert seen[1]["arch"].after is None, "an architecture step that is not due reads nothing"
    assert torch.equal(seen[0]["arch"].after, seen[2]["arch"].before)
    assert not torch.equal(seen[0]["arch"].after, seen[0]["weights"].after)
    assert module.state()["memories"] == {}, "an epoch begins with no memory"


def test_each_process_has_a_memory_of_its_own_and_checkpoints_hold_all(data: TextData, tmp_path: Path) -> None:
    class Tell(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, m: Any, batch: Any, i: int) -> None:
            if m.position == 1:
                stored = m.state()
                loaded = search(data)
                loaded._trainer = trainer
                loaded.load_state(stored)
                own = {"own": m._memories, "loaded": loaded._memories, "all": stored["memories"]}
                content = {name: digest(value) for name, value in own.items()}
                (tmp_path / f"rank{m.global_rank}.json").write_text(json.dumps(content))

    strategy = "ddp_notebook_find_unused_parameters_true"
    fit(search(data), data, tmp_path, epochs=1, every=1000, callbacks=[Tell()], devices=2, strategy=strategy)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["all"] == second["all"]
    assert first["own"] != second["own"]
    assert (first["own"], second["own"]) == (first["loaded"], second["loaded"])
