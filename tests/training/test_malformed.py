"""Files that are read back hold what they should, or are refused in one line: mutations of each of them."""

import copy
import io
import json
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.errors import CheckpointError, InputError
from lightning_nas.files import read_json, replace_file
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.checkpoint import load_checked, sealed, unsealed
from lightning_nas.trials.book import Trials
from lightning_nas.trials.ledger import Ledger

WRONG: list[Any] = [
    "x",
    -1,
    2.5,
    None,
    [],
    {},
    [["x"]],
    {"x": 1},
    True,
    float("nan"),
    10**400,
    torch.zeros(2),
    b"x",
    2**62,
]


def seal(content: Any, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replace_file(path, *sealed(buffer.getbuffer()))


def search(folder: Path, resume: Path | None = None) -> RegularizedEvolution:
    module = RegularizedEvolution(ToySpace(5), engine=ToyEngine(noise=0.1), trials=6, population=3, sample=2)
    fit(module, None, folder, epochs=1, every=2, resume=resume, callbacks=[TrialLogger()])
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with one_thread():
        search(folder)
    return folder


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in nested containers, containers themselves included."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    copied = copy.deepcopy(content)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied


def assert_one_line(error: BaseException) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 800


def test_a_sealed_checkpoint_with_other_types_resumes_or_is_refused(tmp_path: Path, whole: Path) -> None:
    content = load_checked(whole / "checkpoints" / "last-1.ckpt")
    places, rng = list(leaves(content)), random.Random(0)
    assert len(places) > 40
    refused = 0
    with one_thread():
        for number in range(150):
            path, value = places[number % len(places)], WRONG[rng.randrange(len(WRONG))]
            seal(changed(content, path, value), tmp_path / "last.ckpt")
            folder = tmp_path / str(number)
            folder.mkdir()
            for name in ("metrics.csv", "trials.csv", "trials.jsonl"):
                (folder / name).write_bytes((whole / name).read_bytes())
            try:
                search(folder, tmp_path / "last.ckpt")
            except InputError as error:
                assert_one_line(error)
                refused += 1
    assert refused > 50


def test_compressed_and_endless_content_is_refused_before_it_is_unpacked(tmp_path: Path, whole: Path) -> None:
    inner = io.BytesIO(unsealed(whole / "checkpoints" / "last.ckpt"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(inner) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    replace_file(tmp_path / "packed.ckpt", *sealed(buffer.getbuffer()))
    with pytest.raises(CheckpointError, match="compressed members"):
        load_checked(tmp_path / "packed.ckpt")
    seal({"x": torch.zeros(1).expand(10**9)}, tmp_path / "view.ckpt")
    with pytest.raises(CheckpointError, match="larger than the file"):
        load_checked(tmp_path / "view.ckpt")
    os.mkfifo(tmp_path / "pipe")
    for endless in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        for read in (load_checked, read_json):
            with pytest.raises(InputError, match="not a regular file"):
                read(endless)
    (tmp_path / "large.json").write_bytes(b" " * (8 * 2**20 + 1))
    with pytest.raises(InputError, match="at most"):
        read_json(tmp_path / "large.json")


def test_numbers_beyond_a_float_are_refused(tmp_path: Path) -> None:
    for text in ("1e999", "-1e999", "1" * 101, "[" + "9" * 5000 + "]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InputError, match="too large a number"):
            read_json(tmp_path / "x.json")


def test_events_of_other_types_are_refused_in_one_line(tmp_path: Path, whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        del line["crc"]  # as of earlier versions; with it whatever is changed is refused
        line.pop("format", None)
    places, rng, refused = list(leaves(lines)), random.Random(1), 0
    for number in range(200):
        path = places[number * 7 % len(places)]
        value = WRONG[rng.randrange(len(WRONG))]
        try:
            text = "".join(json.dumps(line) + "\n" for line in changed(lines, path, value))
        except TypeError:  # no JSON
            continue
        (tmp_path / "trials.jsonl").write_text(text)
        try:
            Trials(ToyEngine(), Ledger(tmp_path / "trials.jsonl")).load_state({"proposed": 0, "returned": 0})
        except CheckpointError as error:
            assert_one_line(error)
            refused += 1
    assert refused > 80


def test_a_finished_trial_without_a_curve_is_refused(tmp_path: Path) -> None:
    event = {"event": "finished", "trial": 0, "attempt": 1, "curve": [], "seconds": 1.0, "reason": None}
    (tmp_path / "trials.jsonl").write_text(json.dumps(event) + "\n")
    with pytest.raises(CheckpointError, match="has no curve"):
        Trials(ToyEngine(), Ledger(tmp_path / "trials.jsonl")).load_state({"proposed": 0, "returned": 0})
