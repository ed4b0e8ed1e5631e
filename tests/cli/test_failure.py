"""Numerical failure is exit code 3, the machine's is 4; neither leaves anything that looks like an answer."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from commands import TINY, Commands, Ended, rows
from omegaconf import DictConfig

from lightning_nas.cli.command import _reported
from lightning_nas.training.checkpoint import load_checked, newest


def _refusal_of_torch() -> Exception:
    """What torch says of memory that no machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    return caught.value


LEFT = ("result.json", "report.html")  # by a run whose answer was deleted


def test_a_search_that_goes_wrong_says_where_and_has_no_answer(cli: Commands) -> None:
    folder = cli.folder / "run"
    folder.mkdir()
    for name in LEFT:
        (folder / name).write_text("of an earlier run")
    ended = cli.run(*TINY, "strategy.weights_optimizer.weight_decay=1e12", f"hydra.run.dir={folder}")
    ended.refused("train/loss is", "at batch", code=3)
    assert not [name for name in ("architecture.json", *LEFT) if (folder / name).exists()]


def test_a_new_search_does_not_overwrite_an_answer(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = undisturbed[0]
    before = {
        path: path.read_bytes() for path in folder.glob("*.*") if path.suffix in (".json", ".csv", ".html", ".yaml")
    }
    cli.run(*TINY, "seed=1", f"hydra.run.dir={folder}").refused("the answer of an earlier run", "ckpt_path=last")
    assert {path: path.read_bytes() for path in before} == before


def test_a_retraining_that_goes_wrong_keeps_the_answer_of_the_search(cli: Commands) -> None:
    folder = cli.folder / "run"
    cli.run(
        *TINY, "retrain.optimizer.weight_decay=1e12", "callbacks.rank_check=null", f"hydra.run.dir={folder}"
    ).refused("at batch", code=3)
    assert (folder / "architecture.json").exists()
    assert not (folder / "result.json").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(cli: Commands, undisturbed: tuple[Path, Ended]) -> None:
    folder = cli.folder / "run"
    arguments = [*TINY, "resume.save_every=4", f"hydra.run.dir={folder}"]
    first = cli.fork(*arguments)
    first.when(lambda: rows(folder / "metrics.csv") >= 6)
    first.kill(signal.SIGTERM)
    assert first.wait().code == 143
    saved = folder / "checkpoints" / "last.ckpt"
    before = saved.read_bytes()

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))

    cli.run(*arguments, "ckpt_path=last", before=small_disk).refused("cannot write", code=4)
    found = newest(saved)
    assert found is not None
    assert found[0] == saved
    assert load_checked(saved)["lightning_nas"] == load_checked(saved.with_name("last.ckpt"))["lightning_nas"]
    assert saved.read_bytes() == before
    assert not list(saved.parent.glob(".*.tmp"))
    assert cli.run(*arguments, "ckpt_path=last").code == 0
    for name in ("metrics.csv", "architectures.csv", "architecture.json"):
        assert (folder / name).read_text() == (undisturbed[0] / name).read_text(), name


def test_a_disk_that_is_full_from_the_start_is_no_fault_of_the_input(cli: Commands) -> None:
    def full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))

    cli.run(*TINY, f"hydra.run.dir={cli.folder}/run", before=full_disk).refused("is the disk full?", code=4)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), _refusal_of_torch()])
def test_a_lack_of_memory_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def task(_: DictConfig) -> float:
        raise error

    assert _reported(task, DictConfig({}))[0] == 4
    assert capsys.readouterr().err.startswith("error: there is not enough memory for this run")


def test_other_errors_of_torch_keep_their_traceback() -> None:
    def task(_: DictConfig) -> float:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        _reported(task, DictConfig({}))
