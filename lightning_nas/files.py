"""Strict reading of untrusted JSON files, atomic writing, and the folder of cached results."""

import io
import json
import math
import os
import re
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lightning_nas.errors import EnvironmentFailure, InputError, shown

_LIMIT = 8 * 2**20
_DIGITS = 100  # of an integer; a float holds it
_CACHE = "LIGHTNING_NAS_CACHE"  # conf/paths/default.yaml names the same folder
_LEFTOVER = re.compile(r"\..+\.\d+\.tmp")  # the temporary names of replace_file


def cache_folder() -> Path:
    """The folder of latency tables and trained truths: $LIGHTNING_NAS_CACHE, or ``.cache/lightning_nas`` at home."""
    return Path(os.environ.get(_CACHE) or Path(os.environ.get("HOME", "."), ".cache", "lightning_nas"))


def read_json(path: str | Path, *, error: type[InputError] = InputError, limit: int = _LIMIT) -> Any:
    """Read a JSON file of at most ``limit`` bytes, without duplicate keys, NaN or infinity.

    Raises:
        error: the file is missing, too large, truncated, or not strict JSON; one line naming the file.
    """
    path = Path(path).expanduser()
    try:
        text = read_file(path, error=error, limit=limit).decode()
    except UnicodeDecodeError:
        raise error(f"{shown(path)} is not UTF-8 text") from None
    return parse_json(text, where=shown(path), error=error)


def read_file(path: Path, *, error: type[InputError] = InputError, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; pipes, devices and other files without an end are not opened.

    Raises:
        error: the file is missing, not a regular file, or too large; one line naming the file.
    """
    try:
        known = path.stat()
        if not stat.S_ISREG(known.st_mode):
            raise error(f"cannot read {shown(path)}: it is not a regular file")
        if known.st_size > limit:
            raise error(f"{shown(path)}: {known.st_size} bytes; legal: at most {limit} bytes")
        with path.open("rb") as file:
            content = file.read(known.st_size)
    except OSError as reason:
        raise error(f"cannot read {shown(path)}: {reason.strerror}") from None
    except MemoryError:
        raise error(f"{shown(path)}: {known.st_size} bytes do not fit into the memory") from None
    return content


def check_members(content: bytes, said: str, *, error: type[InputError] = InputError) -> None:
    """Refuse compressed members of a file of torch, which does not write such: unpacked they can be of any size.

    Args:
        content: of the file, a zip archive.
        said: the beginning of the message.
        error: to raise.

    Raises:
        error: it is no archive, or its members are compressed or larger than the file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as reason:
        raise error(f"{said}: {shown(str(reason), 160)}") from None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise error(f"{said}: it holds compressed members")
    if sum(member.file_size for member in members) > len(content):
        raise error(f"{said}: its members are larger than the file")


def parse_json(text: str, *, where: str, error: type[InputError] = InputError) -> Any:
    """Parse strict JSON: no duplicate keys, no NaN, no infinity, no numbers that a float or 100 digits do not hold.

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

    def real(digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise error(f"{where}: {shown(digits)} is too large a number")
        return value

    def whole(digits: str) -> int:
        if len(digits) > _DIGITS:
            raise error(f"{where}: {shown(digits)} is too large a number")
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=real, parse_int=whole)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where} is not valid JSON: {shown(str(reason))}") from None


@contextmanager
def atomic(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing; it appears under its name only when it is complete and on the disk.

    The content is kept in memory until the end, see :func:`replace_file`.

    Raises:
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    file: io.BytesIO | io.StringIO = io.BytesIO() if "b" in mode else io.StringIO(newline="")
    yield file
    content = file.getvalue()
    replace_file(path, content if isinstance(content, bytes) else content.encode())


def replace_file(path: str | Path, *parts: bytes | memoryview, before: Callable[[], None] | None = None) -> None:
    """Write a file that appears under its name only when it is complete and on the disk.

    A temporary file in the same folder is written and flushed first and then renamed, so a kill, a full disk or a power
    cut leaves the previous file unchanged.

    Args:
        path: the file.
        parts: its content.
        before: called when the content is on the disk under its temporary name.

    Raises:
        EnvironmentFailure: the disk is full or the folder is not writable.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(partial, os.O_CREAT | os.O_TRUNC, *parts, flush=True)
        if before is not None:
            before()
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as reason:
        raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror or reason}") from reason
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file that exists; :func:`sync` flushes it to the disk.

    Raises:
        EnvironmentFailure: the disk is full, or the file was removed.
    """
    try:
        _write(path, os.O_APPEND, content)
    except OSError as reason:
        raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror or reason}") from reason


def sync(path: Path) -> None:
    """Flush a file to the disk.

    Raises:
        EnvironmentFailure: the disk reports a failure, or the file was removed.
    """
    try:
        _write(path, 0, flush=True)
    except OSError as reason:
        raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror or reason}") from reason


def write_all(file: int, content: bytes | memoryview) -> None:
    """Write to a file descriptor; a full disk takes a part of it and fails at the next write."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _write(path: Path, flags: int, *parts: bytes | memoryview, flush: bool = False) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    try:
        for part in parts:
            write_all(file, part)
        if flush:
            os.fsync(file)
    finally:
        os.close(file)


def remove_leftovers(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove temporary files that killed writers of this library left in a folder.

    Args:
        folder: no other process may write to it, unless ``older_than`` is longer than any writing takes.
        older_than: seconds since the last change of a file.
    """
    with suppress(OSError):
        for file in folder.iterdir():
            if _LEFTOVER.fullmatch(file.name) and time.time() - file.stat().st_mtime >= older_than:
                file.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it is in.

    Raises:
        EnvironmentFailure: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise EnvironmentFailure(f"cannot write {shown(folder)}: {reason.strerror or reason}") from reason


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
