"""``trials.jsonl``: the events of all trials, one JSON object per line, append-only.

The first line, ``{"event": "began", "conditions": {...}}``, holds the settings; then follow
``{"event": "proposed", "trial": 0, "architecture": {...}, ...}``, then ``started`` for each attempt, then ``finished``,
``failed`` or ``lost`` as in :class:`~lightning_nas.trials.requests.Response`. Only the search writes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_nas.errors import CheckpointError, EnvironmentFailure, InputError, shown
from lightning_nas.files import parse_json, sync_folder
from lightning_nas.training.exact import differences

Event = dict[str, Any]
EVENTS = ("proposed", "started", "finished", "failed", "lost")
_line = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Ledger:
    """The file and the events it had when it was opened.

    Events are on the disk after :meth:`sync`. An incomplete last line, as a kill leaves it, is dropped.

    Args:
        path: the file, which is created if it does not exist.

    Attributes:
        found: the events of earlier processes.
        conditions: the conditions of the search that began the ledger; None if it has none.
        events: number of lines now, the first line included.
        opened_with: number of lines when the file was opened.

    Raises:
        CheckpointError: the file is damaged elsewhere, or is not a ledger.
        EnvironmentFailure: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "trials.jsonl"
        >>> ledger = Ledger(path)
        >>> ledger.append("failed", {"trial": 0, "reason": "NaN"})
        >>> ledger.close()
        >>> Ledger(path).found
        [{'event': 'failed', 'trial': 0, 'reason': 'NaN'}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.found, self.conditions, whole = _read(path) if path.exists() else ([], None, 0)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(whole)
            sync_folder(path.parent)
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(path)}: {reason.strerror}") from reason
        self.opened_with = self.events = len(self.found) + (self.conditions is not None)
        self._unsynced = False

    def begin(self, conditions: Mapping[str, str], *, allow_inexact: bool = False) -> None:
        """Write the conditions of the search, or compare them with those of the ledger.

        Raises:
            CheckpointError: the conditions differ and ``allow_inexact`` is false; the message names the differences.
        """
        if self.conditions is None:
            if not self.found:
                self.append("began", {"conditions": dict(conditions)})
            return
        if (listed := differences(self.conditions, conditions)) and not allow_inexact:
            raise CheckpointError(
                f"{self.path.name} was written under other conditions: {listed}; start in another folder; "
                "resume.allow_inexact=true resumes nevertheless"
            )

    def append(self, event: str, content: Event) -> None:
        """Write one event; :meth:`sync` flushes it to the disk."""
        left = memoryview(_line({"event": event, **content}).encode() + b"\n")
        try:
            while left:  # a full disk takes a part of it and fails at the next write
                left = left[self._file.write(left) :]
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(self.path)}: {reason.strerror}") from reason
        self.events += 1
        self._unsynced = True

    def sync(self) -> None:
        """Flush appended events to the disk."""
        if not self._unsynced:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(self.path)}: {reason.strerror}") from reason
        self._unsynced = False

    def close(self) -> None:
        """Flush and close the file."""
        self.sync()
        self._file.close()


def _read(path: Path) -> tuple[list[Event], dict[str, str] | None, int]:
    """The events of a ledger, its conditions, and its length in bytes without an incomplete last line."""
    events, conditions, whole = list[Event](), None, 0
    lines = list(_lines(path))
    for number, (line, end) in enumerate(lines, start=1):
        where = f"line {number} of {shown(path)}"
        try:
            event = parse_json(line.decode(), where=where)
        except (InputError, UnicodeDecodeError) as reason:
            if number == len(lines):
                break  # nothing depends on it yet
            raise CheckpointError(f"{where} is damaged ({shown(str(reason))}); start in another folder") from None
        if number == 1 and isinstance(event, dict) and event.get("event") == "began":
            conditions, whole = _conditions(event, where), end
            continue
        if not isinstance(event, dict) or event.get("event") not in EVENTS or type(event.get("trial")) is not int:
            raise CheckpointError(f"{where} is not an event of a trial; legal: an object with event, one of {EVENTS}")
        events.append(event)
        whole = end
    return events, conditions, whole


def _conditions(event: Event, where: str) -> dict[str, str]:
    content = event.get("conditions")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise CheckpointError(f"{where}: conditions must be texts by name; start in another folder")
    return content


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Complete lines and the byte offsets of their ends."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line[:-1], end
