"""Reading a run's files."""

import csv
from pathlib import Path

import numpy as np
import pytest

from lightning_nas.errors import InputError
from lightning_nas.report.record import number, read_object, read_points, read_probabilities, read_rows


def test_files_that_are_not_there_are_empty(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.csv") == []
    assert read_object(tmp_path / "result.json") == {}


def test_rows_come_back_as_the_csv_module_wrote_them(tmp_path: Path) -> None:
    rows = [{"key": 'a,"b"', "choices": "k3\nk5"}, {"key": "", "choices": "深い"}]
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["key", "choices"])
        writer.writeheader()
        writer.writerows(rows)
    assert read_rows(tmp_path / "x.csv") == rows


def test_a_line_cut_short_or_too_long_costs_its_own_cells_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("epoch,step,loss\n0,1,0.5,9,9\n0,2")
    assert read_rows(tmp_path / "x.csv") == [
        {"epoch": "0", "step": "1", "loss": "0.5"},
        {"epoch": "0", "step": "2", "loss": ""},
    ]


def test_a_csv_file_that_cannot_be_one_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("epoch\n" + "1" * 200_000)
    with pytest.raises(InputError, match=r"x\.csv' is not CSV"):
        read_rows(tmp_path / "x.csv")


@pytest.mark.parametrize("text", ['{"seed": 1', "[1]", '{"seed": NaN}'])
def test_a_damaged_result_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"result\.json"):
        read_object(tmp_path / "result.json")


@pytest.mark.parametrize("cell", ["", None, "nan", "-inf", "1e999", "0x10", "1,5", [], 10**400])
def test_a_cell_without_a_finite_number_is_none(cell: object) -> None:
    assert number(cell) is None


def test_points_are_sorted_and_without_gaps() -> None:
    rows = [
        {"epoch": "1", "step": s, "loss": v, "acc": ""} for s, v in (("4", "1"), ("2", "nan"), ("", "7"), ("3", "2"))
    ]
    assert read_points(rows) == {"loss": [(3.0, 2.0), (4.0, 1.0)]}
    assert read_points(rows, "epoch") == {"loss": [(1.0, 1.0), (1.0, 7.0), (1.0, 2.0)]}


def test_probabilities_come_back_in_any_order_of_rows() -> None:
    options = ["b", "a", "c"]
    truth = np.random.default_rng(0).random((4, 12, 3))
    rows = [
        {"epoch": str(5 * e), "group": "g", "choice": str(c), "option": options[o], "probability": repr(float(value))}
        for (e, c, o), value in np.ndenumerate(truth)
    ]
    shuffled = [rows[0], *np.random.default_rng(1).permutation(rows[1:])]
    epochs, values, names = read_probabilities([*shuffled, {"epoch": "x", "group": "other"}])["g"]
    assert epochs == [0, 5, 10, 15]
    assert np.array_equal(values[:, :, [names.index(option) for option in options]], truth)


def test_an_option_a_choice_has_not_is_nan() -> None:
    rows = [{"epoch": "0", "group": "g", "choice": c, "option": o, "probability": "0.5"} for c, o in ("0a", "0b", "1a")]
    _, values, _ = read_probabilities(rows)["g"]
    assert np.array_equal(values, [[[0.5, 0.5], [0.5, np.nan]]], equal_nan=True)
