"""The conformance suite of callbacks."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from lightning_nas.callbacks.base import RecordingCallback
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import digest, fingerprint, fit, one_thread
from lightning_nas.training.seeding import seeded


class CallbackCase:
    """Tests of a callback: subclass and define the fixture ``make``, a factory of callbacks with one setting."""

    epochs = 2

    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        """The factory of the callback under test."""
        pytest.fail(f"{type(self).__name__} defines no fixture 'make'")

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        with one_thread():
            yield

    def test_it_does_not_change_the_search(self, make: Callable[[], Callback], tmp_path: Path) -> None:
        states = []
        for name, callbacks in (("without", []), ("with", [make()])):
            module = toy_search()
            fit(module, _data(), tmp_path / name, epochs=self.epochs, every=1000, callbacks=callbacks)
            states.append(digest([module.state_dict(), module.state()]))
            assert module.training
        assert states[0] == states[1]

    def test_files_have_the_declared_columns_and_are_reproducible(
        self, make: Callable[[], Callback], tmp_path: Path
    ) -> None:
        written = []
        for name in ("a", "b"):
            callback = make()
            fit(toy_search(), _data(), tmp_path / name, epochs=self.epochs, every=1000, callbacks=[callback])
            files = callback.files if isinstance(callback, RecordingCallback) else {}
            for file, columns in files.items():
                with (tmp_path / name / file).open(newline="") as stream:
                    rows = list(csv.reader(stream))
                assert tuple(rows[0]) == columns
                assert len(rows) > 1, f"{file} is empty"
            written.append({file: (tmp_path / name / file).read_text() for file in files})
        assert written[0] == written[1]

    def test_files_after_a_resume_equal_those_of_an_uninterrupted_run(
        self, make: Callable[[], Callback], tmp_path: Path
    ) -> None:
        whole, module = tmp_path / "whole", toy_search()
        trainer = fit(module, _data(), whole, epochs=self.epochs, callbacks=[make()])
        expected = fingerprint(trainer, module, whole)
        files = sorted((whole / "checkpoints").glob("*.ckpt"))
        for checkpoint in files[:: max(1, len(files) // 4)]:
            folder = tmp_path / checkpoint.stem
            shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("checkpoints"))
            again = toy_search()
            options: dict[str, Any] = {"every": 1000, "resume": checkpoint, "callbacks": [make()]}
            trainer = fit(again, _data(), folder, epochs=self.epochs, **options)
            assert fingerprint(trainer, again, folder) == expected, f"differs after resuming from {checkpoint.name}"

    def test_nothing_is_written_before_training(self, make: Callable[[], Callback], tmp_path: Path) -> None:
        fit(
            toy_search(),
            _data(),
            tmp_path,
            epochs=1,
            callbacks=[make()],
            num_sanity_val_steps=1,
            limit_train_batches=0,
        )
        assert not [file.name for file in tmp_path.glob("*.csv")]


def _data() -> ToyData:
    """Toy data with four training and two validation batches per epoch."""
    return ToyData(304, val_fraction=0.15)


def toy_search(seed: int = 0) -> SearchModule:
    """A small FBNet search for the tests of callbacks."""
    space = ToySpace()
    with seeded(seed, "supernet"):
        return FBNet(
            space,
            Classification(),
            Macs()(space),
            seed=seed,
            **PLAIN_ARCH,
            alternate="batch",
            weights_optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
            arch_optimizer=partial(torch.optim.Adam, lr=0.1),
            calibration_batches=2,
            score_batches=2,
            candidates=3,
        )
