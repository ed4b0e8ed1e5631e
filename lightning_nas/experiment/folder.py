"""The run's folder: who may write to it, and what an earlier run left there."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from lightning_nas.errors import ConfigError, shown

log = logging.getLogger(__name__)


def is_first_process() -> bool:
    """Whether this process writes the files: rank 0, known from the environment before Lightning sets up anything."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of the run's folder.

    Raises:
        ConfigError: another process is at work in it, or nothing can be written there.
    """
    if not is_first_process():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as reason:
        raise ConfigError(f"cannot write to the folder {shown(folder)}: {reason.strerror}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(f"{shown(folder)} is in use by process {shown(file.read())}") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def forget(folder: Path, config: DictConfig) -> None:
    """What an earlier run left in the folder must not be taken for an answer of this one, should this one fail.

    A ledger of trials is kept under another name: to train them again may take days.
    """
    old = [folder / "result.json", folder / "report.html", folder / "layers.csv"]
    retrained = folder / "retrain"
    if not goes_on_in(retrained, config):
        old += [*retrained.glob("*.csv"), *(retrained / "checkpoints").glob("*.ckpt")]
    if "search" in config.stages and not goes_on_in(folder / "checkpoints", config):
        old += [folder / "architecture.json", folder / "latency_table.json", *folder.glob("*.csv")]
        old += [*(folder / "checkpoints").glob("*.ckpt"), *(folder / "children").glob("*.pt")]
        if (ledger := folder / "trials.jsonl").exists():
            ledger.replace(folder / "trials.old.jsonl")
            log.warning("what was tried here before is in trials.old.jsonl; ckpt_path=last would have gone on from it")
    for file in old:
        file.unlink(missing_ok=True)


def goes_on_in(folder: Path, config: DictConfig) -> bool:
    """Whether the run goes on from a checkpoint in this folder, and so with the tables that belong to it."""
    named = config.ckpt_path
    return named is not None and (named == "last" or folder.resolve() in Path(named).resolve().parents)
