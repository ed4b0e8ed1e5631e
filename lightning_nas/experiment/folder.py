"""The run's folder: who may write to it, and what an earlier run left there."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from lightning_utilities.core.rank_zero import rank_zero_only

from lightning_nas.errors import ConfigError, shown
from lightning_nas.export.names import FILES
from lightning_nas.files import cache_folder, remove_leftovers

log = logging.getLogger(__name__)
_WRITTEN = ("", "checkpoints", "children", "retrain", "retrain/checkpoints", "export")  # folders with files of ours
_ABANDONED = 3600.0  # seconds after which a file of the cache, which other runs share, is in nobody's hands


def is_first_process() -> bool:
    """Whether this process writes the files: rank 0, known from the environment before Lightning sets up anything."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of the run's folder, and remove the temporary files of killed ones.

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
        for name in _WRITTEN:
            remove_leftovers(folder / name)
        cache = cache_folder()
        for place in (cache, cache / "images", *cache.glob("truth/*")):
            remove_leftovers(place, older_than=_ABANDONED)
        yield


def check_free(folder: Path, stages: Collection[str], checkpoint: str | None) -> None:
    """Refuse to overwrite what an earlier run in the folder found, or could still go on with.

    Args:
        folder: of the run.
        stages: to come.
        checkpoint: what the run resumes from, see :func:`goes_on_in`.

    Raises:
        ConfigError: names the folder.
    """
    if not is_first_process():
        return
    searches, retrained = "search" in stages, folder / "retrain"
    found, what = None, ""
    if searches and not goes_on_in(folder / "checkpoints", checkpoint):
        if (folder / "architecture.json").exists():
            found, what = folder, "the answer of an earlier run"
        elif any((folder / "checkpoints").glob("*.ckpt")):
            found, what = folder, "an unfinished search"
    elif not searches and not goes_on_in(retrained, checkpoint) and any((retrained / "checkpoints").glob("*.ckpt")):
        found, what = retrained, "an earlier retraining"
    if "ranking" in stages and (folder / "result.json").exists():
        found, what = folder, "the result of an earlier run"
    if found is not None:
        raise ConfigError(
            f"{shown(found)} has {what}, which is not overwritten; name another folder (hydra.run.dir=), or go on with "
            "ckpt_path=last"
        )


def forget(folder: Path, stages: Collection[str], checkpoint: str | None) -> None:
    """Remove what an earlier run left in the folder, so that it is not taken for an answer of this one.

    A ledger of trials is kept as ``trials.old.jsonl``: training them again may take days. Checkpoints are removed
    first, so that nothing resumes from them if this is interrupted.

    Args:
        folder: of the run.
        stages: to come.
        checkpoint: what the run resumes from, see :func:`goes_on_in`.
    """
    first, old = list[Path](), [folder / "result.json", folder / "report.html", folder / "layers.csv"]
    retrained, ledger = folder / "retrain", folder / "trials.jsonl"
    anew = "search" in stages and not goes_on_in(folder / "checkpoints", checkpoint)
    if not goes_on_in(retrained, checkpoint):
        first += (retrained / "checkpoints").glob("*.ckpt")
        old += [*retrained.glob("*.csv"), retrained / "network.pt", retrained / "preprocessing.json"]
        old += [folder / "export" / name for name in ("export.json", *chain(*FILES.values()))]
    if anew:
        first += (folder / "checkpoints").glob("*.ckpt")
        old += [folder / "architecture.json", folder / "latency_table.json", *folder.glob("*.csv")]
        old += [folder / "trials.index", folder / "inherited.pt"]
        old += (folder / "children").glob("*.pt")
    for file in [*first, *old]:
        file.unlink(missing_ok=True)
    if anew and ledger.exists():
        ledger.replace(folder / "trials.old.jsonl")
        log.warning("the trials of an earlier search are in trials.old.jsonl; ckpt_path=last resumes such a search")


def goes_on_in(folder: Path, checkpoint: str | None) -> bool:
    """Whether a run resumes from a checkpoint in this folder, and so with the tables that belong to it.

    Args:
        folder: of the checkpoints.
        checkpoint: "last", a file, or None for a new beginning.
    """
    return checkpoint is not None and (
        checkpoint == "last" or folder.resolve() in Path(checkpoint).expanduser().resolve().parents
    )
