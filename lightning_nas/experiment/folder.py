"""The run's folder: who may write to it, and what an earlier run left there."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only

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


def forget(folder: Path, stages: Collection[str], checkpoint: str | None) -> None:
    """Remove what an earlier run left in the folder, so that it is not taken for an answer of this one.

    A ledger of trials is kept as ``trials.old.jsonl``: training them again may take days.

    Args:
        folder: of the run.
        stages: to come.
        checkpoint: what the run resumes from, see :func:`goes_on_in`.
    """
    old = [folder / "result.json", folder / "report.html", folder / "layers.csv"]
    retrained = folder / "retrain"
    if not goes_on_in(retrained, checkpoint):
        old += [*retrained.glob("*.csv"), *(retrained / "checkpoints").glob("*.ckpt")]
    if "search" in stages and not goes_on_in(folder / "checkpoints", checkpoint):
        old += [folder / "architecture.json", folder / "latency_table.json", *folder.glob("*.csv")]
        old += [*(folder / "checkpoints").glob("*.ckpt"), *(folder / "children").glob("*.pt")]
        if (ledger := folder / "trials.jsonl").exists():
            ledger.replace(folder / "trials.old.jsonl")
            log.warning("the trials of an earlier search are in trials.old.jsonl; ckpt_path=last resumes such a search")
    for file in old:
        file.unlink(missing_ok=True)


def goes_on_in(folder: Path, checkpoint: str | None) -> bool:
    """Whether a run resumes from a checkpoint in this folder, and so with the tables that belong to it.

    Args:
        folder: of the checkpoints.
        checkpoint: "last", a file, or None for a new beginning.
    """
    return checkpoint is not None and (checkpoint == "last" or folder.resolve() in Path(checkpoint).resolve().parents)
