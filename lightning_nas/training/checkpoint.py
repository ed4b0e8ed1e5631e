"""Checkpoint files that survive a kill, a full disk and a flipped bit.

A file is a torch checkpoint whose zip comment holds the SHA-256 of the rest of the file. It is written under a
temporary name, flushed to the disk and renamed; the previous file is kept. Files load with ``weights_only=True`` only.
"""

import hashlib
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.types import _PATH

from lightning_nas.errors import CheckpointError, shown
from lightning_nas.files import atomic

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


class AtomicCheckpointIO(CheckpointIO):
    """Write and read files with a checksum, and keep ``keep - 1`` older generations as ``last-1.ckpt``, ...

    Args:
        keep: number of generations of one file name on the disk.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise CheckpointError("storage options are not supported: checkpoints are local files")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic(path, "wb") as file:
            file.write(sealed(buffer.getvalue()))
            for newer, older in reversed(list(pairwise(self._generations(path)))):
                if newer.exists():
                    newer.replace(older)

    def _generations(self, path: _PATH) -> list[Path]:
        return generations(Path(path), self.keep)

    def load_checkpoint(self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = True) -> Any:
        return load_checked(Path(path), map_location)

    def remove_checkpoint(self, path: _PATH) -> None:
        for file in self._generations(path):
            file.unlink(missing_ok=True)


def generations(path: Path, keep: int = 10) -> list[Path]:
    """File names of a checkpoint and its older generations, newest first: last.ckpt, last-1.ckpt, ..."""
    return [path, *(path.with_stem(f"{path.stem}-{age}") for age in range(1, keep))]


def sealed(content: bytes) -> bytes:
    """Append the SHA-256 of a zip file as its zip comment."""
    seal = _MARK + hashlib.sha256(content).hexdigest().encode()
    return content[:-2] + _COMMENT.to_bytes(2, "little") + seal


def load_checked(path: Path, map_location: Any | None = None) -> Any:
    """Load a sealed checkpoint with ``weights_only=True``.

    Raises:
        CheckpointError: the file is missing, damaged, not written by this library, or holds objects other than tensors
            and plain values.
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise CheckpointError(f"cannot read the checkpoint {shown(path)}: {reason.strerror}") from None
    content, seal = data[:-_COMMENT], data[-_COMMENT:]
    content = content[:-2] + b"\0\0"
    if seal != _MARK + hashlib.sha256(content).hexdigest().encode():
        raise CheckpointError(f"the checkpoint {shown(path)} is damaged or not of this library: its checksum differs")
    try:
        return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as reason:  # noqa: BLE001 - torch raises whatever foreign content makes it raise
        raise CheckpointError(f"refused the checkpoint {shown(path)}: {shown(str(reason), 160)}") from None


def newest(path: Path) -> tuple[Path, Any] | None:
    """Find the newest generation of ``path`` with a valid checksum; return the file and its content on the meta device.

    Returns None if there is no file. Temporary files of killed writers are removed.

    Raises:
        CheckpointError: there are files, but none has a valid checksum.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    found = [file for file in generations(path) if file.exists()]
    reasons = []
    for file in found:
        try:
            return file, load_checked(file, map_location="meta")
        except CheckpointError as reason:
            reasons.append(str(reason))
    if found:
        raise CheckpointError(f"no checkpoint in {shown(path.parent)} can be used; the newest: {reasons[0]}")
    return None
