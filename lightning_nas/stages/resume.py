"""The checkpoint a stage goes on from."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from torch import nn

from lightning_nas.errors import CheckpointError, InputError, shown
from lightning_nas.training.checkpoint import load_checked, newest_valid
from lightning_nas.training.exact import ExactCheckpoint


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
    if named is None:
        return None
    if named == "last":
        path = newest_valid(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
    elif Path(named).is_file():
        path = Path(named)
    else:
        raise InputError(f"ckpt_path={shown(named)} is no file; legal: last, or a checkpoint file")
    if path is not None:
        _check(path, trainer, module)
    return path


def _check(path: Path, trainer: pl.Trainer, module: nn.Module) -> None:
    """Before Lightning loads anything of it, and fails half-way in words of its own."""
    stored = load_checked(path, map_location="meta")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ExactCheckpoint):
            callback.verify(trainer, stored)
    theirs = {name: tuple(value.shape) for name, value in stored["state_dict"].items()}
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if theirs != ours:
        name = next(name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name))
        raise CheckpointError(
            f"the checkpoint {shown(str(path))} is of another network: {shown(name)} has the shape {theirs.get(name)} "
            f"there and {ours.get(name)} here"
        )
