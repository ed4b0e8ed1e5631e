"""Checkpoint files that survive a kill, a full disk and a flipped bit.

A file is a torch checkpoint whose zip comment holds the SHA-256 of the rest of the file. It is written under a
temporary name and flushed to the disk; then the previous file, if it is intact, becomes the older generation, and the
new one gets its name. So there is an intact file at every moment. Files load with ``weights_only=True`` only.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.types import _PATH

from lightning_nas.errors import CheckpointError, shown
from lightning_nas.files import check_members, read_file, remove_leftovers, replace_file

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_LIMIT = 2**40  # bytes of a file
_SMALL = 2**20  # bytes of a tensor that may be a view on less storage


class AtomicCheckpointIO(CheckpointIO):
    """Write and read files with a checksum, and keep ``keep - 1`` older generations as ``last-1.ckpt``, ...

    Args:
        keep: number of generations of one file name on the disk.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep
        self._intact: dict[Path, tuple[int, int, int]] = {}  # files of this process, as they were left

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        if storage_options is not None:
            raise CheckpointError("storage options are not supported: checkpoints are local files")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        replace_file(path, *sealed(buffer.getbuffer()), before=lambda: self._make_room(Path(path)))
        self._intact[Path(path)] = _identity(Path(path))

    def _make_room(self, path: Path) -> None:
        """Make each file the older generation; a damaged newest one is left to be overwritten instead."""
        if not path.exists() or not self._is_intact(path):
            return
        for newer, older in reversed(list(pairwise(self._generations(path)))):
            if newer.exists():
                newer.replace(older)

    def _is_intact(self, path: Path) -> bool:
        if self._intact.get(path) == _identity(path):
            return True
        with suppress(CheckpointError):
            unsealed(path)
            return True
        return False

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


def sealed(content: memoryview) -> tuple[memoryview, bytes]:
    """The parts of a file: a zip file, and its SHA-256 as its zip comment."""
    seal = _MARK + hashlib.sha256(content).hexdigest().encode()
    return content[:-2], _COMMENT.to_bytes(2, "little") + seal


def unsealed(path: Path) -> bytes:
    """The zip file in a sealed file.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by this library.
    """
    data = read_file(path, error=CheckpointError, limit=_LIMIT)
    content, seal = data[:-_COMMENT], data[-_COMMENT:]
    content = content[:-2] + b"\0\0"
    if seal != _MARK + hashlib.sha256(content).hexdigest().encode():
        raise CheckpointError(f"the checkpoint {shown(path)} is damaged or not of this library: its checksum differs")
    return content


def _identity(path: Path) -> tuple[int, int, int]:
    known = path.stat()
    return known.st_ino, known.st_size, known.st_mtime_ns


def load_checked(path: Path, map_location: Any | None = None) -> Any:
    """Load a sealed checkpoint with ``weights_only=True``.

    Raises:
        CheckpointError: the file is missing, damaged, not written by this library, or holds objects other than tensors
            and plain values.
    """
    content = unsealed(path)
    check_members(content, f"refused the checkpoint {shown(path)}", error=CheckpointError)
    try:
        loaded = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as reason:  # noqa: BLE001 - torch raises whatever foreign content makes it raise
        raise CheckpointError(f"refused the checkpoint {shown(path)}: {shown(str(reason), 160)}") from None
    if any(value.numel() * value.element_size() > max(len(content), _SMALL) for value in _tensors(loaded)):
        raise CheckpointError(f"refused the checkpoint {shown(path)}: a tensor in it is larger than the file")
    return loaded


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested containers."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _tensors(value)


def newest(path: Path) -> tuple[Path, Any] | None:
    """Find the newest generation of ``path`` with a valid checksum; return the file and its content on the meta device.

    Returns None if there is no file. Temporary files of killed writers are removed.

    Raises:
        CheckpointError: there are files, but none has a valid checksum.
    """
    remove_leftovers(path.parent)
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
