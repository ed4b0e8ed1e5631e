"""A real process is killed at random batches and started again; what it ends with must equal an undisturbed run."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.errors import Interrupted
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.training.checkpoint import load_checked, newest
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.seeding import seed_everything, seeded
from lightning_nas.training.signals import StopRequest

EPOCHS = 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


class Stop(Callback):
    """A signal after training has begun and before its first batch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def search(folder: Path, *callbacks: Callback) -> None:
    """One attempt: resumes by itself, writes ``done.json`` at the end."""
    StopRequest.listen()
    seed_everything("whatever", time.time_ns())
    space = ToySpace()
    with seeded(0, "supernet"):
        module = FBNet(
            space,
            Classification(),
            Macs()(space),
            arch_warmup_epochs=0,
            weights_optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
            arch_optimizer=partial(torch.optim.Adam, lr=0.1),
            weights_scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=EPOCHS),
            alternate="epoch",
            calibration_batches=2,
            score_batches=2,
        )
    saved = newest(folder / "checkpoints" / "last.ckpt")
    resume = saved[0] if saved else None
    trainer = fit(
        module,
        ToyData(),
        folder,
        epochs=EPOCHS,
        every=2,
        keep=2,
        resume=resume,
        callbacks=[ArchitectureLogger(samples=3), *callbacks],
    )
    content = fingerprint(trainer, module, folder) | {"answer": module.answer().key}
    (folder / "done.json").write_text(json.dumps(content))


def start(folder: Path, *callbacks: Callback) -> int:
    """Fork: torch is imported already, so an attempt takes a fraction of a second."""
    folder.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        code = 0
        try:
            search(folder, *callbacks)
        except Interrupted as stop:
            code = int(stop.code or 0)
        except BaseException as error:  # noqa: BLE001 - the parent reads it
            (folder / "error.txt").write_text(repr(error))
            code = 1
        os._exit(code)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def when(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with one_thread():
        assert wait(start(folder)) == 0
    return json.loads((folder / "done.json").read_text())


def test_sigkill_at_random_batches_changes_no_bit(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    rng, kills, folder = random.Random(7), 0, tmp_path / "run"
    for _ in range(100):
        child = start(folder)
        if kills < 12:
            rows = _rows(folder)
            target = rows + rng.randint(1, 4)
            when(lambda target=target: _rows(folder) >= target or (folder / "done.json").exists())
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            kills += 1
        code = wait(child)
        assert code in (0, -signal.SIGKILL), (folder / "error.txt").read_text()
        if (folder / "done.json").exists():
            break
    assert kills >= 5
    assert json.loads((folder / "done.json").read_text()) == undisturbed


def _rows(folder: Path) -> int:
    try:
        return (folder / "metrics.csv").read_text().count("\n")
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_code_and_a_checkpoint_of_that_very_batch(
    tmp_path: Path, undisturbed: dict[str, str], signum: int, code: int
) -> None:
    folder = tmp_path / "run"
    child = start(folder)
    when(lambda: _rows(folder) > 6)
    sent = time.monotonic()
    os.kill(child, signum)
    assert wait(child) == code
    assert time.monotonic() - sent < 60
    state = load_checked(folder / "checkpoints" / "last.ckpt")
    rows = CSVTable(folder / "metrics.csv").read()
    last = max(int(row["step"]) for row in rows if row["train/loss"] or row["arch/loss"])
    assert state["lightning_nas"]["position"] in (last, last + 1)
    assert wait(start(folder)) == 0
    assert json.loads((folder / "done.json").read_text()) == undisturbed


def test_a_stop_before_the_first_batch_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    folder = tmp_path / "run"
    assert wait(start(folder, Stop())) == 143
    assert load_checked(folder / "checkpoints" / "last.ckpt")["lightning_nas"]["position"] == 0
    assert wait(start(folder)) == 0, (folder / "error.txt").read_text()
    assert json.loads((folder / "done.json").read_text()) == undisturbed
