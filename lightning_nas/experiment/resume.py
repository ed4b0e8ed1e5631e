"""The checkpoint a stage goes on from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.ops.states import mismatch
from lightning_nas.training.checkpoint import load_checked, newest
from lightning_nas.training.exact import ExactCheckpoint, changes, check_form

log = logging.getLogger(__name__)


def check_resumable(named: str | None, folder: Path, conditions: dict[str, str], *, allow_inexact: bool) -> None:
    """Refuse early, before anything is measured, written or overwritten, what :func:`checkpoint_to_resume` would.

    Args:
        named: as there.
        folder: of the first stage.
        conditions: what must not have changed, as far as it is known.
        allow_inexact: let it pass if it has.

    Raises:
        CheckpointError: the checkpoint cannot be used, or was made under other conditions.
        InputError: the named checkpoint is not there.
    """
    opened = _open(named, folder)
    if opened is None:
        if named is not None:
            log.info("ckpt_path=last: there is no checkpoint in %s yet, the run begins at its beginning", folder)
        return
    changed = changes(opened[1], conditions, known_so_far=True)
    if changed and not allow_inexact:
        raise CheckpointError(f"{changed}; resume.allow_inexact=true resumes all the same")


def checkpoint_to_resume(named: str | None, trainer: pl.Trainer, module: nn.Module) -> Path | None:
    """The checkpoint to go on from, known to fit; or None to start afresh.

    Args:
        named: "last" for the newest in the trainer's folder that can be used, or a file.
        trainer: of the stage.
        module: of the stage.

    Raises:
        CheckpointError: there are checkpoints and none can be used, or it was made under other conditions.
        InputError: the named checkpoint is not there.
    """
    opened = _open(named, Path(trainer.default_root_dir))
    if opened is None:
        return None
    path, stored = opened
    ExactCheckpoint.of(trainer).verify(trainer, stored)
    _check_shapes(path, stored, module)
    return path


def named_file(named: str) -> Path:
    """The file of a checkpoint that is named, other than "last".

    Raises:
        InputError: it is not there.
    """
    file = Path(named).expanduser()
    if not file.is_file():
        raise InputError(f"ckpt_path={shown(named)} is no file; legal: last, or a checkpoint file")
    return file


def _open(named: str | None, folder: Path) -> tuple[Path, Any] | None:
    """The checkpoint and what is in it, without the tensors' values."""
    if named is None:
        return None
    if named == "last":
        opened = newest(folder / "checkpoints" / "last.ckpt")
    else:
        file = named_file(named)
        opened = file, load_checked(file, map_location="meta")
    if opened is not None:
        check_form(opened[1])
    return opened


def _check_shapes(path: Path, stored: Any, module: nn.Module) -> None:
    """Before Lightning loads anything of it, and fails half-way in words of its own."""
    if found := mismatch(stored["state_dict"], module.state_dict()):
        name, theirs, ours = found
        raise CheckpointError(
            f"the checkpoint {shown(path)} is of another network: {shown(name)} has the shape {theirs} there "
            f"and {ours} here"
        )
