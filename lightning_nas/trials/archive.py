"""Trials that have ended, most of them on the disk only.

The memory holds 36 bytes a trial: its number, the places of its two lines in the ledger, a digest of its architecture,
and its reward. The rest is read from the ledger when it is asked for. The same 36 bytes are kept in ``trials.index``,
so that a resume reads them instead of every line of the ledger. That file is not flushed to the disk: a checkpoint
knows its digest, and without it everything is found in the ledger again.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lightning_nas.errors import EnvironmentFailure, shown
from lightning_nas.files import append, replace_file

if TYPE_CHECKING:
    from lightning_nas.trials.book import Trial

_FIELDS = {"number": "I", "proposed": "Q", "ended": "Q", "form": "Q", "reward": "d"}  # type codes
_RECORD = np.dtype(list(_FIELDS.items()))
_IN_MEMORY = 10_000  # trials
_LATEST = 2**16  # places that are not sorted yet


class Archive(Sequence["Trial"]):
    """The trials that have ended, in the order in which the search learns from them.

    Args:
        path: the index.
        read: returns a trial, given its number and the places of its two lines in the ledger.

    Attributes:
        rewards: rewards of the first trials, as far as the search has given them.

    Example:
        >>> import tempfile
        >>> from lightning_nas.architecture import Architecture
        >>> from lightning_nas.trials.book import Trial
        >>> trials = [Trial(n, Architecture("toy", ()), {}, (0.5,), 1.0, None) for n in range(3)]
        >>> path = Path(tempfile.mkdtemp()) / "trials.index"
        >>> archive = Archive(path, lambda number, proposed, ended: trials[number])
        >>> for trial in trials:
        ...     archive.append(trial, proposed=0, ended=0, form=trial.number % 2)
        ...     archive.rewards.append(0.5)
        >>> archive.first(form=0), archive[-1].number
        (0, 2)
        >>> again = Archive(path, lambda number, proposed, ended: trials[number])
        >>> again.restore(archive.position()), len(again)
        (True, 3)
    """

    def __init__(self, path: Path, read: Callable[[int, int, int], Trial]) -> None:
        self.path, self._read = path, read
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in _FIELDS.items()}
        self._places = _Places()
        self._recent: OrderedDict[int, Trial] = OrderedDict()
        self._written, self._began, self._digest = 0, False, hashlib.sha256()

    @property
    def rewards(self) -> array[float]:
        return self._columns["reward"]

    @property
    def numbers(self) -> array[int]:
        """Numbers of the trials."""
        return self._columns["number"]

    def append(self, trial: Trial, *, proposed: int, ended: int, form: int) -> None:
        """Add a trial.

        Args:
            trial: that has ended.
            proposed: byte offset in the ledger of the line of its proposal.
            ended: byte offset of the line of its end.
            form: digest of its architecture, equal for equivalent ones.
        """
        place = len(self)
        for name, value in (("number", trial.number), ("proposed", proposed), ("ended", ended), ("form", form)):
            self._columns[name].append(value)
        self._places.add(form, place)
        self._remember(place, trial)

    def first(self, form: int) -> int | None:
        """Place of the first trial with this digest; None if there is none."""
        return self._places.get(form)

    def place(self, number: int) -> int | None:
        """Place of a trial by its number; None if it has not ended."""
        numbers = self.numbers
        if number < len(numbers) and numbers[number] == number:
            return number
        try:
            return numbers.index(number)
        except ValueError:
            return None

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Trial: ...

    @overload
    def __getitem__(self, place: slice) -> list[Trial]: ...

    def __getitem__(self, place: int | slice) -> Trial | list[Trial]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        place = range(len(self))[place]
        if place not in self._recent:
            columns = self._columns
            self._remember(
                place, self._read(columns["number"][place], columns["proposed"][place], columns["ended"][place])
            )
        self._recent.move_to_end(place)
        return self._recent[place]

    def _remember(self, place: int, trial: Trial) -> None:
        self._recent[place] = trial
        if len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)

    # -- the index ----------------------------------------------------------------------------------------------

    def position(self) -> dict[str, Any]:
        """Add the trials that have a reward to the index; returns their number and the digest of the file.

        Raises:
            EnvironmentFailure: the index cannot be written.
        """
        if not self._began:
            replace_file(self.path)
            self._began = True
        if self._written < len(self.rewards):
            records = np.empty(len(self.rewards) - self._written, _RECORD)
            for name, column in self._columns.items():
                records[name] = column[self._written : len(self.rewards)]
            content = records.tobytes()
            append(self.path, content)
            self._digest.update(content)
            self._written = len(self.rewards)
        return {"rows": self._written, "sha256": self._digest.hexdigest()}

    def restore(self, position: Mapping[str, Any]) -> bool:
        """Read the index as it was at a position, into an empty archive; False if it is not there or was changed."""
        size = position["rows"] * _RECORD.itemsize
        try:
            if self.path.stat().st_size < size:
                return False
            with self.path.open("rb") as file:
                content = file.read(size)
        except OSError:
            return False
        digest = hashlib.sha256(content)
        if digest.hexdigest() != position["sha256"]:
            return False
        try:
            os.truncate(self.path, size)
        except OSError as reason:
            raise EnvironmentFailure(f"cannot write {shown(self.path)}: {reason.strerror}") from reason
        records = np.frombuffer(content, _RECORD)
        for name, column in self._columns.items():
            column.frombytes(np.ascontiguousarray(records[name]).tobytes())
        self._places = _Places(records["form"])
        self._written, self._began, self._digest = len(records), True, digest
        return True


class History(Sequence[tuple["Trial", float]]):
    """The trials that a search has learned from, with their rewards."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def append(self, entry: tuple[Trial, float]) -> None:
        """Add the next trial of the archive, with its reward."""
        self._archive.rewards.append(entry[1])

    def __len__(self) -> int:
        return len(self._archive.rewards)

    @overload
    def __getitem__(self, place: int) -> tuple[Trial, float]: ...

    @overload
    def __getitem__(self, place: slice) -> list[tuple[Trial, float]]: ...

    def __getitem__(self, place: int | slice) -> tuple[Trial, float] | list[tuple[Trial, float]]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        place = range(len(self))[place]
        return self._archive[place], self._archive.rewards[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class _Places:
    """The first place of each digest: sorted arrays, 12 bytes each, and a dictionary of the latest."""

    def __init__(self, forms: np.ndarray[Any, Any] | None = None) -> None:
        known = np.empty(0, np.uint64) if forms is None else forms.astype(np.uint64)
        self._forms, places = np.unique(known, return_index=True)
        self._sorted = places.astype(np.uint32)
        self._latest: dict[int, int] = {}

    def get(self, form: int) -> int | None:
        if form in self._latest:
            return self._latest[form]
        at = int(np.searchsorted(self._forms, np.uint64(form)))
        return int(self._sorted[at]) if at < len(self._forms) and int(self._forms[at]) == form else None

    def add(self, form: int, place: int) -> None:
        if self.get(form) is not None:
            return
        self._latest[form] = place
        if len(self._latest) == _LATEST:
            forms = np.concatenate([self._forms, np.fromiter(self._latest, np.uint64)])
            places = np.concatenate([self._sorted, np.fromiter(self._latest.values(), np.uint32)])
            order = np.argsort(forms)
            self._forms, self._sorted = forms[order], places[order]
            self._latest.clear()
