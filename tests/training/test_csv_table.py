import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_nas.errors import CheckpointError
from lightning_nas.training.csv_table import CSVTable


def test_a_row_comes_back_as_the_csv_module_reads_it_and_floats_are_exact(tmp_path: Path) -> None:
    table = CSVTable(tmp_path / "t.csv", ("epoch", "value"))
    values = [0.1, 1 / 3, 1e-300, -0.0, 123456789.123456789]
    for epoch, value in enumerate(values):
        table.append({"epoch": epoch, "value": value})
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "value"]
    assert [float(row[1]).hex() for row in rows[1:]] == [value.hex() for value in values]


def test_columns_that_come_later_are_empty_before(tmp_path: Path) -> None:
    table = CSVTable(tmp_path / "t.csv")
    table.append({"a": 1})
    table.append({"b": 'x,\n"y"'})
    table.append({"a": None, "b": 2})
    assert table.read() == [{"a": "1", "b": ""}, {"a": "", "b": 'x,\n"y"'}, {"a": "", "b": "2"}]


def test_a_new_table_replaces_an_old_file(tmp_path: Path) -> None:
    CSVTable(tmp_path / "t.csv").append({"a": 1})
    CSVTable(tmp_path / "t.csv").append({"b": 2})
    assert CSVTable(tmp_path / "t.csv").read() == [{"b": "2"}]


@settings(max_examples=30, deadline=None)
@given(keep=st.integers(0, 6), more=st.integers(0, 3))
def test_cutting_and_going_on_equals_never_having_written_more(tmp_path_factory, keep: int, more: int) -> None:
    folder = tmp_path_factory.mktemp("cut")

    def row(i: int) -> dict[str, object]:
        return {"i": i} | ({"late": i * 0.5} if i >= 2 else {})

    straight, cut = CSVTable(folder / "straight.csv"), CSVTable(folder / "cut.csv")
    for i in range(keep + more):
        straight.append(row(i))
    for i in range(6):
        cut.append(row(i))
    again = CSVTable(folder / "cut.csv")
    again.cut(keep)
    for i in range(min(keep, 6), keep + more):
        again.append(row(i))
    assert [{k: v for k, v in r.items() if v} for r in again.read()] == [
        {k: v for k, v in r.items() if v} for r in straight.read()
    ]


def test_a_header_that_was_changed_is_refused(tmp_path: Path) -> None:
    table = CSVTable(tmp_path / "t.csv", ("number", "failed"))
    table.append({"number": 1})
    then = table.position()
    table.path.write_text(table.path.read_text().replace("failed", "passed"))
    with pytest.raises(CheckpointError, match="others than"):
        CSVTable(tmp_path / "t.csv", ("number", "failed")).cut(then)
