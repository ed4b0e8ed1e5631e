"""``trials.jsonl``: the events of all trials, one JSON object per line, append-only.

The first line, ``{"event": "began", "format": 2, "conditions": {...}}``, holds the settings; then follow
``{"event": "proposed", "trial": 0, "architecture": {...}, ...}``, then ``started`` for each attempt, then ``finished``,
``failed`` or ``lost`` as in :class:`~lightning_nas.trials.requests.Response`. Only the search writes it.

Each line ends with ``"crc"``, 16 hexadecimal digits: the CRC-32 of the line without it, and that of all of the file
before the line. So lines that are removed, doubled or in another order are found too, except the last ones: a file
without them is what a kill leaves. Lines of earlier versions have the first 8 digits or no CRC, and a file that they
begin is continued with all 16.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lightning_nas.errors import CheckpointError, EnvironmentFailure, InputError, shown
from lightning_nas.files import parse_json, replace_file, sync_folder, write_all
from lightning_nas.training.exact import differences

log = logging.getLogger(__name__)

Event = dict[str, Any]
EVENTS = ("proposed", "started", "finished", "failed", "lost")
MOST_TRIALS = 2**31
_PROPOSED = {"architecture", "info", "parent", "bars", "epochs", "continues"}
_KEYS = {"event", "trial", "attempt", "curve", "seconds", "reason"} | _PROPOSED
_BLOCK, _BLOCKS = 2**12, 2**20  # bytes read at once: of one line, of a file
_CRC = ',"crc":'
_FORMAT = 2  # of a file whose lines all say what is before them
_line = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Ledger:
    """The file and the events it had when it was opened.

    Events are on the disk after :meth:`sync`. An incomplete last line, as a kill leaves it, is dropped.

    Args:
        path: the file, which is created if it does not exist.

    Attributes:
        conditions: the conditions of the search that began the ledger; None if it has none.
        events: number of lines now, the first line included.
        opened_with: number of lines when the file was opened.
        bytes: length of the file.

    Raises:
        CheckpointError: the file is damaged elsewhere, or is not a ledger.
        EnvironmentFailure: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "trials.jsonl"
        >>> ledger = Ledger(path)
        >>> place = ledger.append("failed", {"trial": 0, "reason": "NaN"})
        >>> ledger.close()
        >>> Ledger(path).found
        [{'event': 'failed', 'trial': 0, 'reason': 'NaN'}]
    """

    def __init__(self, path: Path) -> None:
        self.path, self._chained = path, False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._reading = os.open(path, os.O_RDONLY)  # to the end of the object: searches read past trials
            weakref.finalize(self, os.close, self._reading)
            self.opened_with, self.bytes = _whole(path)
            self.conditions, self._first = self._head()
            self._file.truncate(self.bytes)
            sync_folder(path.parent)
            self._digest, self._before = _digest(path, self.bytes)
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror}") from reason
        self.events, self._opened_bytes = self.opened_with, self.bytes
        self._unsynced = False

    def _head(self) -> tuple[dict[str, str] | None, int]:
        """The conditions in the first line, and the byte offset of the first event."""
        if not self.bytes:
            return None, 0
        line = self._line(0)
        content = _content(line, 0, self.path)
        self._chained = isinstance(content, dict) and content.get("format") == _FORMAT
        _check_place(line, 0, self.path, 0, chained=self._chained)
        if isinstance(content, dict) and content.get("event") == "began":
            return _conditions(content, _where(0, self.path)), len(line) + 1
        return None, 0

    def begin(self, conditions: Mapping[str, str], *, allow_inexact: bool = False) -> None:
        """Write the conditions of the search, or compare them with those of the ledger.

        Raises:
            CheckpointError: the conditions differ and ``allow_inexact`` is false; the message names the differences.
        """
        if self.conditions is None:
            if not self.opened_with:
                self.append("began", {"format": _FORMAT, "conditions": dict(conditions)})
            return
        if (listed := differences(self.conditions, conditions)) and not allow_inexact:
            raise CheckpointError(
                f"{self.path.name} was written under other conditions: {listed}; start in another folder; "
                "resume.allow_inexact=true resumes nevertheless"
            )

    @property
    def found(self) -> list[Event]:
        """The events of earlier processes."""
        return [event for event, _ in self.read()]

    def read(self, start: int = 0) -> Iterator[tuple[Event, int]]:
        """The events of earlier processes, one by one, with their places; their number does not count for the memory.

        Args:
            start: place of the first one, a byte offset.

        Raises:
            CheckpointError: a line is no event, or does not follow the lines before it.
        """
        with self.path.open("rb") as file:
            offset, end, before, chained = max(start, self._first), self._opened_bytes, 0, self._chained
            for block in _blocks(file, offset):
                before = zlib.crc32(block, before)
            file.seek(offset)
            while offset < end:
                line = file.readline()
                event = _event(line[:-1], offset, self.path)
                chained = _check_place(line[:-1], offset, self.path, before, chained=chained)
                yield event, offset
                before = zlib.crc32(line, before)
                offset += len(line)
        if offset > start == 0 and not chained:
            log.warning(
                "%s was written by an earlier version, so that lines removed from it would not be found",
                shown(self.path),
            )

    def at(self, place: int) -> Event:
        """The event at a place, a byte offset.

        Raises:
            CheckpointError: there is no event.
        """
        return _event(self._line(place), place, self.path)

    def _line(self, place: int) -> bytes:
        read = b""
        while b"\n" not in read:
            more = os.pread(self._reading, _BLOCK, place + len(read))
            if not more:
                break
            read += more
        return read.partition(b"\n")[0]

    def append(self, event: str, content: Event) -> int:
        """Write one event; :meth:`sync` flushes it to the disk. Returns its place, a byte offset."""
        body = _line({"event": event, **content}).encode()
        place, line = self.bytes, body[:-1] + f'{_CRC}"{_crc(body)}{self._before:08x}"}}\n'.encode()
        try:
            write_all(self._file.fileno(), line)
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(self.path)}: {reason.strerror}") from reason
        self.events += 1
        self.bytes += len(line)
        self._digest.update(line)
        self._before = zlib.crc32(line, self._before)
        self._unsynced = True
        return place

    def sync(self) -> None:
        """Flush appended events to the disk.

        Raises:
            EnvironmentFailure: the disk reports a failure, or the file was removed.
        """
        if not self._unsynced:
            return
        try:
            os.fsync(self._file.fileno())
            removed = not os.fstat(self._file.fileno()).st_nlink
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(self.path)}: {reason.strerror}") from reason
        if removed:
            raise EnvironmentFailure(f"{shown(self.path)} was removed while the search was writing it")
        self._unsynced = False

    def position(self) -> dict[str, Any]:
        """Flush the events to the disk; returns the length of the file and its SHA-256."""
        self.sync()
        return {"bytes": self.bytes, "sha256": self._digest.hexdigest()}

    def check(self, position: Mapping[str, Any]) -> None:
        """Compare the beginning of the file with what a checkpoint knows.

        Args:
            position: result of :meth:`position`.

        Raises:
            CheckpointError: events are missing or were changed.
        """
        less = self.bytes < position["bytes"]
        if less or _digest(self.path, position["bytes"])[0].hexdigest() != position["sha256"]:
            what = "has fewer events than" if less else "has other events than"
            raise CheckpointError(
                f"{shown(self.path)} {what} when the checkpoint was made: it belongs to another folder, or it was cut "
                "or changed; restore it or start in another folder"
            )

    def text(self) -> str:
        """All events, for :meth:`restore`."""
        self.sync()
        return self.path.read_text(encoding="utf-8")

    @classmethod
    def restore(cls, path: Path, text: str) -> Ledger:
        """Write a ledger anew and open it."""
        replace_file(path, text.encode())
        return cls(path)

    def close(self) -> None:
        """Flush and close the file."""
        self.sync()
        self._file.close()


def _whole(path: Path) -> tuple[int, int]:
    """Number and length in bytes of the complete lines of a file; a damaged last one is none."""
    lines = end = read = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCKS):
            if found := block.count(b"\n"):
                lines, end = lines + found, read + block.rindex(b"\n") + 1
            read += len(block)
        if not lines:
            return 0, 0
        begins = _last_line(file, end)
        file.seek(begins)
        last = file.read(end - begins - 1)
    try:
        _parsed(last)
    except (InputError, UnicodeDecodeError):  # nothing depends on it yet
        return lines - 1, begins
    return lines, end


def _last_line(file: BinaryIO, end: int) -> int:
    """Where the line that ends at ``end`` begins."""
    before = end - 1
    while before:
        start = max(0, before - _BLOCK)
        file.seek(start)
        if (found := file.read(before - start).rfind(b"\n")) >= 0:
            return start + found + 1
        before = start
    return 0


def _digest(path: Path, size: int) -> tuple[Any, int]:
    """The running SHA-256 and CRC-32 of the first bytes of a file."""
    digest, crc = hashlib.sha256(), 0
    with path.open("rb") as file:
        for block in _blocks(file, size):
            digest.update(block)
            crc = zlib.crc32(block, crc)
    return digest, crc


def _event(line: bytes, place: int, path: Path) -> Event:
    content = _content(line, place, path)
    content = content if isinstance(content, dict) else {}
    trial = content.get("trial")
    named = content.get("event") in EVENTS and content.keys() <= _KEYS
    if type(trial) is not int or not 0 <= trial < MOST_TRIALS or not named:
        raise CheckpointError(
            f"{_where(place, path)} is not an event of a trial; legal: an object with trial, a number from 0 on, and "
            f"event, one of {EVENTS}"
        )
    return content


def _content(line: bytes, place: int, path: Path) -> Any:
    try:
        return _parsed(line)
    except (InputError, UnicodeDecodeError) as reason:
        raise CheckpointError(
            f"{_where(place, path)} is damaged ({shown(str(reason))}); start in another folder"
        ) from None


def _parsed(line: bytes) -> Any:
    content = parse_json(line.decode(), where="it")
    if isinstance(content, dict) and "crc" in content:
        body = line.rpartition(_CRC.encode())[0] + b"}"
        crc = content.pop("crc")
        if not isinstance(crc, str) or len(crc) not in (8, 16) or crc[:8] != _crc(body):
            raise InputError("it was changed after it was written")
    return content


def _digits(line: bytes) -> bytes:
    """The digits of a line's CRC; none in a line of an earlier version."""
    return line.rpartition(_CRC.encode())[2].strip(b'"}') if _CRC.encode() in line else b""


def _check_place(line: bytes, place: int, path: Path, before: int, *, chained: bool) -> bool:
    """Refuse a line that does not follow the lines before it.

    Args:
        line: without its end.
        place: of the line, for the error.
        path: likewise.
        before: CRC-32 of the lines before it.
        chained: whether a line before it says what is before that.

    Returns:
        Whether this line says so, or one before it.
    """
    digits = _digits(line)
    if len(digits) < 16:
        if chained:
            raise CheckpointError(
                f"{_where(place, path)} lacks its checksum: it was changed after it was written; restore the file or "
                "start in another folder"
            )
        return False
    if digits[8:] != f"{before:08x}".encode():
        raise CheckpointError(
            f"{_where(place, path)} was written after other lines than are before it now: lines were removed, doubled, "
            "changed or put in another order; restore the file or start in another folder"
        )
    return True


def _crc(body: bytes) -> str:
    return f"{zlib.crc32(body):08x}"


def _where(place: int, path: Path) -> str:
    with path.open("rb") as file:
        before = sum(block.count(b"\n") for block in _blocks(file, place))
    return f"line {before + 1} of {shown(path)}"


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first bytes of a file in parts."""
    while size and (block := file.read(min(size, _BLOCKS))):
        yield block
        size -= len(block)


def _conditions(event: Event, where: str) -> dict[str, str]:
    content = event.get("conditions")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise CheckpointError(f"{where}: conditions must be texts by name; start in another folder")
    return content
