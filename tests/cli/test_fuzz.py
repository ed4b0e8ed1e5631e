"""Whatever a key is set to and however a file is damaged: an answer, or one line that says what is wrong.

``benchmarks/fuzz.py`` does the same for hours, through the command.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import hydra
import numpy as np
import pytest
from hostile import VALUES, damaged, keys, other_json
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.config.check import check
from lightning_nas.data.numpy_file import read_npz
from lightning_nas.errors import CheckpointError, NasError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.report.candidates import read_candidates
from lightning_nas.report.record import read_object, read_rows
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.checkpoint import AtomicCheckpointIO, load_checked
from lightning_nas.trials.ledger import Ledger

RUNS = (
    ("strategy=fbnet",),
    ("strategy=darts", "search_space=darts_rnn_small", "dataset=text"),
    ("strategy=evolution", "engine=local"),
    ("strategy=proxyless", "dataset=image_folder", "dataset.root=x"),
    ("strategy=mnasnet", "latency_table=measured"),
)
FUZZ = settings(
    max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
SLOWER = settings(FUZZ, max_examples=25)
anything = st.one_of(
    st.sampled_from(VALUES),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.lists(st.one_of(st.integers(-3, 300), st.none(), st.floats(), st.text(max_size=3)), max_size=4),
)


@cache
def composed(number: int) -> tuple[DictConfig, tuple[str, ...]]:
    """A configuration, and each of its keys."""
    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        config = hydra.compose("config", [*RUNS[number], "paths.output=''"])
    return config, tuple(keys(OmegaConf.to_container(config)))


def one_line(error: Exception) -> None:
    """An error of this library, fit for a terminal."""
    text = str(error)
    assert text.isprintable(), repr(text)
    assert 0 < len(text) < 2000


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(number: int) -> None:
    whole, names = composed(number)

    @SLOWER
    @given(st.sampled_from(names), anything)
    def changed(key: str, value: Any) -> None:
        config = whole.copy()
        try:
            OmegaConf.update(config, key, value, merge=False)
        except Exception:  # noqa: BLE001 - no value that a command line could set
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            try:
                check(config)
            except NasError as error:
                one_line(error)
            except (OmegaConfBaseException, HydraException):
                pass  # the command gives their text

    changed()


def ledger(path: Path) -> None:
    """Read a ledger."""
    Ledger(path).close()


def checkpoint(path: Path) -> None:
    """Read a sealed file of tensors."""
    load_checked(path)


def arrays(path: Path) -> None:
    """Read an .npz file."""
    read_npz(path, ["x_train", "y_train"], named="path=FILE", limit=2**20)


def run_folder(path: Path) -> None:
    """Read the tables of a run's folder."""
    read_rows(path)
    read_candidates(path.parent)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """Files as this library writes them, by name."""
    space, folder = ToySpace(), tmp_path / "whole"
    folder.mkdir()
    zoo.load("fbnet_a").save(folder / "architecture.json")
    LatencyTable.macs(space).save(folder / "table.json")
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": [1, 2.0]}, "epoch": 3}, folder / "last.ckpt")
    np.savez(folder / "data.npz", x_train=np.zeros((3, 4, 4)), y_train=np.arange(3))
    rows = io.StringIO()
    csv.writer(rows).writerows([["key", "choices", "score", "cost", "epoch"], ["a", "k3 skip", "0.5", "3", "1"]] * 2)
    (folder / "architectures.csv").write_text(rows.getvalue())
    (folder / "result.json").write_text(json.dumps({"strategy": "fbnet", "test_acc": 0.5, "curve": [1, 2]}))
    trial = {"event": "proposed", "trial": 0, "architecture": Architecture.of("toy", {"a": "b"}).to_dict()}
    (folder / "ledger.jsonl").write_text(f"{json.dumps(trial)}\n" * 2)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


READERS: dict[str, Callable[[Path], Any]] = {
    "architecture.json": Architecture.load,
    "table.json": LatencyTable.load,
    "last.ckpt": checkpoint,
    "data.npz": arrays,
    "architectures.csv": run_folder,
    "result.json": read_object,
    "ledger.jsonl": ledger,
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    path, content = tmp_path / name, whole[name]
    READERS[name](_written(path, content))  # the whole file is read

    @FUZZ
    @given(st.integers(0, 2**32))
    def read(seed: int) -> None:
        draw = Random(seed)
        if name.endswith(".json") and seed % 2:
            changed = other_json(content.decode(), draw).encode()
        else:
            changed = damaged(content, draw)
        try:
            READERS[name](_written(path, changed))
        except NasError as error:
            one_line(error)

    read()


def test_a_flipped_bit_of_a_checkpoint_never_changes_what_is_read(whole: dict[str, bytes], tmp_path: Path) -> None:
    content, path = bytearray(whole["last.ckpt"]), tmp_path / "last.ckpt"
    for place in range(0, len(content), 3):
        content[place] ^= 4
        with suppress(CheckpointError):
            assert load_checked(_written(path, bytes(content))) == {"state_dict": {"a": [1, 2.0]}, "epoch": 3}
        content[place] ^= 4


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
