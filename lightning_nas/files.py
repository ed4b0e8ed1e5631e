"""Strict reading of untrusted JSON files, atomic writing, and the folder of cached results."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lightning_nas.errors import EnvironmentFailure, InputError, shown

_LIMIT = 8 * 2**20
_CACHE = "LIGHTNING_NAS_CACHE"  # conf/paths/default.yaml names the same folder


def cache_folder() -> Path:
    """The folder of latency tables and trained truths: $LIGHTNING_NAS_CACHE, or ``.cache/lightning_nas`` at home."""
    return Path(os.environ.get(_CACHE) or Path(os.environ.get("HOME", "."), ".cache", "lightning_nas"))


def read_json(path: str | Path, *, error: type[InputError] = InputError, limit: int = _LIMIT) -> Any:
    """Read a JSON file of at most ``limit`` bytes, without duplicate keys, NaN or infinity.

    Raises:
        error: the file is missing, too large, truncated, or not strict JSON; one line naming the file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > limit:
            raise error(f"{shown(path)}: {size} bytes; legal: at most {limit} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as reason:
        raise error(f"cannot read {shown(path)}: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{shown(path)} is not UTF-8 text") from None
    return parse_json(text, where=shown(path), error=error)


def parse_json(text: str, *, where: str, error: type[InputError] = InputError) -> Any:
    """Parse strict JSON: no duplicate keys, no NaN, no infinity.

    >>> parse_json('{"a": 1, "a": 2}', where="x.json")
    Traceback (most recent call last):
        ...
    lightning_nas.errors.InputError: x.json: the key 'a' occurs twice
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise error(f"{where}: the key {shown(twice)} occurs twice")
        return keys

    def constant(name: str) -> Any:
        raise error(f"{where}: {name} is not a number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where} is not valid JSON: {shown(str(reason))}") from None


@contextmanager
def atomic(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing; it appears under its name only when it is complete and on the disk.

    A temporary file in the same folder is written first and then renamed, so a kill or a full disk leaves the previous
    file unchanged.

    Raises:
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as reason:
        raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror or reason}") from reason
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder (renames, removals) to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically.

    Raises:
        ValueError: the content has NaN or infinity, which JSON does not know.
    """
    text = json.dumps(content, indent=2, allow_nan=False)
    with atomic(path) as file:
        file.write(text + "\n")
