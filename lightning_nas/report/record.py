"""Readers for the files of a run's folder; a file that is absent counts as empty."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nas.errors import InputError, shown
from lightning_nas.files import read_json

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file with a header; none if the file is absent, empty cells where a line is too short.

    Raises:
        InputError: the file is not CSV.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            return [{k: v for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(file, restval="")]
    except csv.Error as reason:
        raise InputError(f"{shown(path)} is not CSV: {shown(str(reason))}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file such as ``result.json``; empty if the file is absent.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{shown(path)} must hold an object, not {shown(content)}")
    return content


def number(cell: Any) -> float | None:
    """The finite number in a cell, or None.

    >>> number("2.5"), number(""), number("nan"), number("two")
    (2.5, None, None, None)
    """
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def read_points(rows: Sequence[Mapping[str, str]], x: str = "step") -> dict[str, list[tuple[float, float]]]:
    """The (x, y) points of every column except ``epoch`` and ``step``, in order of x; without cells that are no number.

    >>> read_points([{"step": "1", "loss": "0.5"}, {"step": "2", "loss": ""}])
    {'loss': [(1.0, 0.5)]}
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        place = number(row.get(x))
        for key, cell in row.items():
            value = number(cell)
            if key not in {"epoch", "step"} and place is not None and value is not None:
                points.setdefault(key, []).append((place, value))
    return {key: sorted(column, key=lambda point: point[0]) for key, column in points.items()}


def read_probabilities(rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[list[int], Any, list[str]]]:
    """The epochs (E,), probabilities (E, choices, options; NaN where a row is missing) and options of each group."""
    cells: dict[str, list[tuple[int, int, str, float]]] = {}
    for row in rows:
        epoch, choice, value = (number(row.get(key)) for key in ("epoch", "choice", "probability"))
        if epoch is not None and choice is not None and value is not None:
            cells.setdefault(row.get("group", ""), []).append((int(epoch), int(choice), row.get("option", ""), value))
    groups = {}
    for group, entries in cells.items():
        epochs, choices = sorted({entry[0] for entry in entries}), sorted({entry[1] for entry in entries})
        options = list(dict.fromkeys(option for _, _, option, _ in entries))
        values = np.full((len(epochs), len(choices), len(options)), np.nan)
        for epoch, choice, option, value in entries:
            values[epochs.index(epoch), choices.index(choice), options.index(option)] = value
        groups[group] = (epochs, values, options)
    return groups
