"""A CSV file that grows row by row and can be cut back to the rows that a checkpoint knows."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nas.files import atomic

Row = Mapping[str, Any]


class CSVTable:
    """Rows with named columns; new columns are added to the header when a row brings them.

    Floats are written by ``repr``, so that reading a row returns the same number.

    Args:
        path: the file; its folder is created with the first row.
        columns: the columns known at the start, in order.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.columns = list(columns)
        self.rows = 0

    def append(self, row: Row) -> None:
        """Write one row; None becomes an empty cell."""
        self.extend([row])

    def extend(self, rows: Sequence[Row]) -> None:
        """Write several rows at once."""
        if not rows:
            return
        new = [column for column in dict.fromkeys(name for row in rows for name in row) if column not in self.columns]
        if new and self.rows:
            written = self.read()
            self.columns += new
            self._rewrite(written)
        self.columns += [column for column in new if column not in self.columns]
        if not self.rows:
            self._rewrite([])
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_cell(row.get(column)) for column in self.columns] for row in rows)
        self.rows += len(rows)

    def read(self) -> list[dict[str, str]]:
        """All rows as text; an absent file has none."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def cut(self, rows: int) -> None:
        """Keep the first ``rows`` rows and remove those written after a checkpoint."""
        kept = self.read()[:rows]
        if kept:
            self.columns = list(kept[0])
        self.rows = len(kept)
        if self.rows:
            self._rewrite(kept)
        else:
            self.path.unlink(missing_ok=True)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic(self.path) as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([row.get(column, "") for column in self.columns] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
