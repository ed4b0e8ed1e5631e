"""Checkpoint files that survive a kill, a full disk and a flipped bit.

A file is an ordinary torch checkpoint whose zip comment holds the SHA-256 of everything else. It is written beside its
final name, forced to the disk and renamed, and the one before it is kept. Loading always uses ``weights_only=True``.
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
    """Writes and reads checked files; keeps the ``keep - 1`` files before the newest as ``last-1.ckpt``, ...

    Args:
        keep: how many generations of one file name lie on the disk.
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
    """The names a checkpoint and its predecessors have, newest first: last.ckpt, last-1.ckpt, ..."""
    return [path, *(path.with_stem(f"{path.stem}-{age}") for age in range(1, keep))]


def sealed(content: bytes) -> bytes:
    """A zip file with the SHA-256 of its content as the zip comment."""
    seal = _MARK + hashlib.sha256(content).hexdigest().encode()
    return content[:-2] + _COMMENT.to_bytes(2, "little") + seal


def load_checked(path: Path, map_location: Any | None = None) -> Any:
    """Load a sealed checkpoint with ``weights_only=True``.

    Raises:
        CheckpointError: missing, damaged, not sealed by this library, or holding anything but plain values.
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise CheckpointError(f"cannot read the checkpoint {shown(path)}: {reason.strerror}") from None
    content, seal = data[:-_COMMENT], data[-_COMMENT:]
    content = content[:-2] + b"\0\0"
    if seal != _MARK + hashlib.sha256(content).hexdigest().encode():
        raise CheckpointError(
            f"the checkpoint {shown(path)} is damaged or not one of this library: its checksum differs"
        )
    try:
        return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as reason:  # noqa: BLE001 - torch raises whatever foreign content makes it raise
        raise CheckpointError(f"refused the checkpoint {shown(path)}: {shown(str(reason), 160)}") from None


def newest(path: Path) -> tuple[Path, Any] | None:
    """The newest generation of ``path`` that verifies, and what is in it, without the tensors' values.

    None if there is no file at all. Leftovers of killed writers are removed.

    Raises:
        CheckpointError: there are files, and none of them verifies.
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
