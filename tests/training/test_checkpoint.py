import os
import random
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.errors import CheckpointError, EnvironmentFailure
from lightning_nas.training.checkpoint import AtomicCheckpointIO, generations, load_checked, newest
from lightning_nas.training.exact import CONTENTS, changes

CONTENT = {"step": 3, "weights": torch.arange(1000.0), "list": [1, 2.5, "x", None, True]}


def saved(folder: Path, *steps: int, keep: int = 3) -> Path:
    for step in steps:
        AtomicCheckpointIO(keep).save_checkpoint(CONTENT | {"step": step}, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_what_is_saved_is_an_ordinary_torch_checkpoint(tmp_path: Path) -> None:
    path = saved(tmp_path, 1)
    for loaded in (torch.load(path, weights_only=True), load_checked(path)):
        assert loaded["list"] == CONTENT["list"]
        assert torch.equal(loaded["weights"], CONTENT["weights"])
    assert zipfile.ZipFile(path).testzip() is None


def test_the_generations_before_are_kept_and_no_more(tmp_path: Path) -> None:
    path = saved(tmp_path, 1, 2, 3, 4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last-1.ckpt", "last-2.ckpt", "last.ckpt"]
    assert [load_checked(file)["step"] for file in generations(path, 3)] == [4, 3, 2]


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path) -> None:
    path, rng = saved(tmp_path, 1), random.Random(0)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            load_checked(path)
    for _ in range(100):
        path.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checked(path)


def test_a_damaged_newest_file_falls_back_to_the_one_before(tmp_path: Path) -> None:
    path = saved(tmp_path, 1, 2)
    path.write_bytes(path.read_bytes()[:-10])
    found = newest(path)
    assert found is not None
    assert found[0] == tmp_path / "last-1.ckpt"
    (tmp_path / "last-1.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used"):
        newest(path)
    assert newest(tmp_path / "never" / "last.ckpt") is None


class Malicious:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.canary),))


@pytest.mark.parametrize("variable", ["", "1"])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
    canary, path = tmp_path / "canary", tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": Malicious(canary)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        load_checked(path)
    with pytest.raises(CheckpointError, match="can be used"):
        newest(path)
    torch.save({"x": Malicious(canary)}, path)
    with pytest.raises(CheckpointError, match="damaged or not"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not canary.exists()


def save_for_ever(path: Path, told: int) -> None:
    """Save after save, and the number of each into a pipe once it is done."""
    step = 0
    while True:
        step += 1
        AtomicCheckpointIO().save_checkpoint({"step": step, "w": torch.full((500_000,), float(step))}, path)
        os.write(told, f"{step}\n".encode())


def test_a_kill_in_the_middle_of_a_save_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    path, rng = tmp_path / "checkpoints" / "last.ckpt", random.Random(1)
    for _ in range(20):
        reading, told_at = os.pipe()
        writer = os.fork()
        if writer == 0:
            torch.set_num_threads(1)
            save_for_ever(path, told_at)
        os.close(told_at)
        with os.fdopen(reading) as pipe:
            pipe.readline()  # one save is done
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(writer, signal.SIGKILL)
            told = [int(line) for line in pipe.read().split()]
        os.waitpid(writer, 0)
        found = newest(path)
        assert found is not None
        loaded = load_checked(found[0])
        assert torch.equal(loaded["w"], torch.full((500_000,), float(loaded["step"])))
        assert loaded["step"] >= max(told, default=1) - 1, "more than one save was lost"
        assert not list(path.parent.glob(".*.tmp")), "leftovers were not removed"


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = saved(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(EnvironmentFailure, match=r"cannot write .*last\.ckpt"):
            AtomicCheckpointIO().save_checkpoint({"step": 2, "w": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    found = newest(path)
    assert found is not None
    assert load_checked(found[0])["step"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def test_other_data_are_another_condition_and_checkpoints_before_it_pass() -> None:
    then = {"lightning_nas_fingerprint": {"seed": "0", CONTENTS: "a1"}}
    for known_so_far in (False, True):
        assert changes(then, {"seed": "0", CONTENTS: "a1"}, known_so_far=known_so_far) == ""
        assert f"{CONTENTS} was a1, is b2" in changes(then, {"seed": "0", CONTENTS: "b2"}, known_so_far=known_so_far)
        of_version_0_1 = {"lightning_nas_fingerprint": {"seed": "0"}}
        assert changes(of_version_0_1, {"seed": "0", CONTENTS: "a1"}, known_so_far=known_so_far) == ""
