"""A CSV file that grows row by row and can be cut back to the rows that a checkpoint knows."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nas.errors import CheckpointError, EnvironmentFailure, shown
from lightning_nas.files import append, replace_file, sync

Row = Mapping[str, Any]


class CSVTable:
    """Rows with named columns; new columns are added to the header when a row brings them.

    Floats are written by ``repr``, so that reading a row returns the same number. Rows are on the disk after
    :meth:`position`, which a checkpoint keeps.

    Args:
        path: the file; its folder is created with the first row.
        columns: the columns known at the start, in order.

    Example:
        >>> import tempfile
        >>> table = CSVTable(Path(tempfile.mkdtemp()) / "t.csv")
        >>> table.append({"epoch": 0, "loss": 0.5})
        >>> then = table.position()
        >>> table.append({"epoch": 1, "loss": 0.25})
        >>> table.cut(then)
        >>> table.read()
        [{'epoch': '0', 'loss': '0.5'}]
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.columns = list(columns)
        self.rows = 0
        self._begin()

    def append(self, row: Row) -> None:
        """Write one row; None becomes an empty cell."""
        self.extend([row])

    def extend(self, rows: Sequence[Row]) -> None:
        """Write several rows at once.

        Raises:
            EnvironmentFailure: the disk is full, or the file was removed or cut.
        """
        if not rows:
            return
        new = [column for column in dict.fromkeys(name for row in rows for name in row) if column not in self.columns]
        if new and self.rows:
            written = self.read()
            if len(written) != self.rows:
                raise EnvironmentFailure(
                    f"{shown(self.path)} has {len(written)} of the {self.rows} rows that were written: something else "
                    "changed it"
                )
            self.columns += new
            self._rewrite(written)
        self.columns += [column for column in new if column not in self.columns]
        if not self.rows:
            self._rewrite([])
        cells = [[_cell(row.get(column)) for column in self.columns] for row in rows]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(cells)
        content = text.getvalue().encode()
        append(self.path, content)
        self._written(content)
        self._count(cells)
        self._synced = False

    def write(self, rows: Sequence[Row]) -> None:
        """Replace the whole file; without rows there is none."""
        self.columns += [c for c in dict.fromkeys(name for row in rows for name in row) if c not in self.columns]
        self._begin()
        cells = [{column: _cell(row.get(column)) for column in self.columns} for row in rows]
        if cells:
            self._rewrite(cells)
            self._count([list(row.values()) for row in cells])
        else:
            self.path.unlink(missing_ok=True)

    def read(self) -> list[dict[str, str]]:
        """All rows as text; an absent file has none."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    # -- what a checkpoint knows --------------------------------------------------------------------------------

    def position(self) -> dict[str, Any]:
        """Flush the rows to the disk; returns their number and digest, and the size and digest of the file."""
        if not self._synced:
            sync(self.path)
            self._synced = True
        cells = {"rows": self.rows, "sha256": self._digest.hex()}
        return cells | {"bytes": self._bytes, "file": self._file.hexdigest()}

    def cut(self, position: Mapping[str, Any] | int, *, exact: bool = True) -> None:
        """Continue after the rows that a checkpoint knows and remove those written later.

        Args:
            position: result of :meth:`position`, or the number of rows in checkpoints of 0.1.
            exact: whether these very rows must be there; otherwise as many of them as there are.

        Raises:
            CheckpointError: the file lacks some of the rows, or they were changed; the file stays as it is.
        """
        then = {"rows": position} if isinstance(position, int) else position
        self._begin()
        if then["rows"] and "file" in then and self._continue(then):
            return
        columns, end, trouble = self.columns, 0, ""
        if then["rows"]:
            try:
                columns, end = self._read_rows(then["rows"])
            except (OSError, ValueError, csv.Error) as reason:  # ValueError: not UTF-8
                trouble = f" ({shown(str(reason))})"
        same = "sha256" not in then or then["sha256"] == self._digest.hex()
        found, same = self.rows, same and columns[: len(self.columns)] == self.columns
        if exact and (found < then["rows"] or not same):
            self._begin()
            what = f"{found} of" if found < then["rows"] else "others than"
            raise CheckpointError(
                f"{shown(self.path)} has {what} the {then['rows']} rows that the checkpoint was made after{trouble}: "
                "it was cut, changed or removed; restore it or start in another folder"
            )
        self.columns = columns
        if self.rows:
            os.truncate(self.path, end)
            self._written(self.path.read_bytes())
        else:
            self.path.unlink(missing_ok=True)

    def _continue(self, then: Mapping[str, Any]) -> bool:
        """Continue a file whose first bytes are as they were; False if they are not."""
        file, left = hashlib.sha256(), then["bytes"]
        try:
            with self.path.open("rb") as known:
                first = known.readline()
                known.seek(0)
                while left and (block := known.read(min(left, 2**20))):
                    file.update(block)
                    left -= len(block)
            if left or file.hexdigest() != then["file"]:
                return False
            os.truncate(self.path, then["bytes"])
        except OSError:
            return False
        self.columns = next(csv.reader([first.decode()]))
        self.rows, self._digest = then["rows"], bytes.fromhex(then["sha256"])
        self._bytes, self._file = then["bytes"], file
        return True

    def _read_rows(self, rows: int) -> tuple[list[str], int]:
        """Count the first rows of the file; returns its columns and the byte offset of their end."""
        columns, end = list(self.columns), 0
        with self.path.open("rb") as file:
            read = 0

            def lines() -> Iterator[str]:
                nonlocal read
                for line in file:
                    if line.endswith(b"\n"):
                        read += len(line)
                        yield line.decode()

            reader = csv.reader(lines())
            self.columns = next(reader, columns)
            for cells in reader:
                if len(cells) != len(self.columns):
                    break
                self._count([cells])
                end = read
                if self.rows == rows:
                    break
        columns, self.columns = self.columns, columns
        return columns, end

    def _begin(self) -> None:
        self.rows, self._digest, self._synced = 0, b"", True
        self._bytes, self._file = 0, hashlib.sha256()

    def _count(self, rows: Iterable[Sequence[str]]) -> None:
        """Chain rows to the digest, which does not depend on columns that later rows bring."""
        for cells in rows:
            known = [pair for pair in zip(self.columns, cells, strict=True) if pair[1]]
            self._digest = hashlib.sha256(self._digest + json.dumps(known).encode()).digest()
            self.rows += 1

    def _written(self, content: bytes) -> None:
        self._bytes += len(content)
        self._file.update(content)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([row.get(column, "") for column in self.columns] for row in rows)
        content = text.getvalue().encode()
        replace_file(self.path, content)
        self._bytes, self._file = len(content), hashlib.sha256(content)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
