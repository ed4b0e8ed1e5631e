"""The table over several runs: what was changed between them, their figures, and means over runs that differ in seed.

Imports no torch.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE
from rich.table import Table

from lightning_nas.files import atomic
from lightning_nas.report.record import number

Runs = Sequence[tuple[str, Mapping[str, Any]]]
"""The name of each run and the content of its ``result.json``."""

# header and format by the key in result.json; first the task's own figure, such as test_acc
SCORES = {
    "test_acc": ("accuracy", ".4f"),
    "test_ppl": ("perplexity", ".2f"),
    "test_r2": ("R2", ".4f"),
    "test_map": ("mAP", ".4f"),
    "test_miou": ("mIoU", ".4f"),
}
FIGURES = {
    "params": ("params", ",.0f"),
    "macs": ("MACs", ",.0f"),
    "latency_measured_ms": ("ms", ".3f"),
    "kendall_tau": ("tau", ".3f"),
    "search_seconds": ("search s", ".1f"),
}
NAMES = ("strategy", "search_space", "dataset")
FEWEST = 3
"""Runs below which there is no interval: that of two is 12.7 standard errors to either side."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        kind: a run, or what is said of several.
        cells: texts, one for each column.
    """

    kind: Literal["run", "mean", "interval"]
    cells: Sequence[str]


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        title: what all runs share.
        head: the names of the columns.
        numeric: numbers of the columns to be aligned right.
        groups: the rows of the runs with equal settings.
        notes: sentences to stand below.
    """

    title: str
    head: Sequence[str]
    numeric: frozenset[int]
    groups: Sequence[Sequence[Row]]
    notes: Sequence[str] = field(default=())


def settings(result: Mapping[str, Any]) -> dict[str, str]:
    """What a run was asked for, by key: the names of its parts, and its overrides.

    >>> settings({"strategy": "fbnet", "overrides": ["strategy=fbnet", "++a.b=c=d", "~logger"]})
    {'strategy': 'fbnet', 'a.b': 'c=d', 'logger': 'removed'}
    """
    asked = {name: str(result.get(name) or "retraining") for name in NAMES if name in result}
    for override in result.get("overrides") or ():
        key, equals, value = str(override).partition("=")
        asked[key.lstrip("+~")] = value if equals and not key.startswith("~") else "removed"
    return asked


def swept(runs: Runs) -> list[str]:
    """The keys whose values differ between runs, except the seed.

    >>> swept([("0", {"overrides": ["a=1", "b=1", "seed=1"]}), ("1", {"overrides": ["a=1", "b=2", "seed=2"]})])
    ['b']
    """
    asked = [settings(result) for _, result in runs]
    keys = dict.fromkeys(key for each in asked for key in each)
    return [key for key in keys if key != "seed" and len({each.get(key) for each in asked}) > 1]


def sheet(runs: Runs) -> Sheet:
    """The runs in groups of equal settings, each with the mean where it has several runs."""
    keys = swept(runs)
    figures = _figures(runs)
    head = ["run", *_short(keys), "seed", *(header for header, _ in figures.values()), "steps"]
    groups: dict[tuple[str, ...], list[tuple[str, Mapping[str, Any]]]] = {}
    for name, result in runs:
        asked = settings(result)
        groups.setdefault(tuple(asked.get(key, "-") for key in keys), []).append((name, result))
    rows = [list(_rows(chosen, members, figures)) for chosen, members in groups.items()]
    return Sheet(
        title=_title(runs, keys),
        head=head,
        numeric=frozenset(range(1 + len(keys), len(head))),
        groups=rows,
        notes=_notes(runs),
    )


def _rows(chosen: Sequence[str], runs: Runs, figures: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
    for name, result in runs:
        figure = _cells([result], figures, lambda values: values[0])
        yield Row("run", [name, *chosen, str(result.get("seed")), *figure, _steps(result)])
    results = [result for _, result in runs]
    blank = [""] * (len(chosen))
    if len(runs) > 1:
        yield Row("mean", ["mean", *blank, f"n={len(runs)}", *_cells(results, figures, statistics.fmean), ""])
    if len(runs) >= FEWEST:
        yield Row("interval", ["+- 95 %", *blank, "", *_cells(results, figures, half_interval), ""])


def _figures(runs: Runs) -> dict[str, tuple[str, str]]:
    """Header and format of the figures that at least one run has."""
    scores = dict.fromkeys(key for _, result in runs for key in result if _is_score(key))
    known = {key: SCORES.get(key, (key.removeprefix("test_"), ".4g")) for key in scores} | FIGURES
    return {
        key: shown for key, shown in known.items() if any(number(result.get(key)) is not None for _, result in runs)
    }


def _is_score(key: str) -> bool:
    return key.startswith("test_") and key != "test_samples"


def _short(keys: Sequence[str]) -> list[str]:
    """The last word of each key where it is that of no other key, else the whole.

    >>> _short(["trainer.max_epochs", "a.lr", "b.lr"])
    ['max_epochs', 'a.lr', 'b.lr']
    """
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def _title(runs: Runs, keys: Sequence[str]) -> str:
    asked = settings(runs[0][1])
    strategy, space, data = (None if name in keys else asked.get(name) for name in NAMES)
    words = [strategy, f"on {space}" if space else None, f"with {data}" if data else None]
    return " ".join(word for word in words if word)


def _notes(runs: Runs) -> list[str]:
    """Where accuracies are from, and which latencies were measured while the machine was busy.

    >>> _notes([("0", {"latency_steady": False, "latency_iqr_ms": 0.5}), ("1", {"latency_steady": True})])
    ['ms measured while the machine was busy: run 0 (IQR 0.500 ms)']
    """
    sources = dict.fromkeys(result["accuracy_source"] for _, result in runs if result.get("accuracy_source"))
    busy = [
        f"{name} (IQR {result.get('latency_iqr_ms', 0.0):.3f} ms)"
        for name, result in runs
        if result.get("latency_steady") is False
    ]
    notes = [f"accuracy: {'; '.join(sources)}"] if sources else []
    return [*notes, f"ms measured while the machine was busy: run {', '.join(busy)}"] if busy else notes


def _steps(result: Mapping[str, Any]) -> str:
    """The steps of the weights and of the architecture, or the trials, that led to the answer.

    >>> _steps({"steps": {"weights": 168, "architecture": 160, "trials": None}}), _steps({})
    ('168+160', '-')
    """
    taken = result.get("steps") or {}
    return "+".join(str(count) for count in taken.values() if count is not None) or "-"


def _cells(
    results: Sequence[Mapping[str, Any]],
    figures: Mapping[str, tuple[str, str]],
    statistic: Callable[[list[float]], float | None],
) -> list[str]:
    """The statistic of each figure over the runs that have it; "-" where there is none."""
    cells = []
    for key, (_, form) in figures.items():
        values = [value for result in results if (value := number(result.get(key))) is not None]
        value = statistic(values) if values else None
        cells.append("-" if value is None else format(value, form))
    return cells


def half_interval(values: Sequence[float]) -> float | None:
    """Half the width of Student's 95 % interval of the mean; None for fewer than three values.

    >>> round(half_interval([1.0, 2.0, 3.0]), 2)
    2.48
    """
    if len(values) < FEWEST:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


# -- written ----------------------------------------------------------------------------------------------------


def as_text(made: Sheet) -> Table:
    """The table for a terminal; no text in it is cut."""
    table = Table(title=made.title, box=SIMPLE, padding=(0, 1), collapse_padding=True)
    for number_, name in enumerate(made.head):
        numeric = number_ in made.numeric
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for group in made.groups:
        for row in group:
            table.add_row(*row.cells)
        table.add_section()
    if made.notes:
        table.caption = "\n".join(made.notes)
    return table


def write_sweep(folder: Path, runs: Runs) -> None:
    """Write ``sweep.csv`` (a row for each run, numbers in full) and ``sweep.html`` (the table with its means).

    Raises:
        EnvironmentFailure: a file cannot be written.
    """
    keys = [key for key in swept(runs) if key not in NAMES]
    plain = [_flat(result) for _, result in runs]
    columns = list(dict.fromkeys(name for each in plain for name in each))
    with atomic(folder / "sweep.csv") as file:
        writer = csv.writer(file)
        writer.writerow(["run", *keys, *columns])
        for (name, result), each in zip(runs, plain, strict=True):
            asked = settings(result)
            values = [each.get(column) for column in columns]
            writer.writerow([name, *(asked.get(key) for key in keys), *values])
    with atomic(folder / "sweep.html") as file:
        file.write(_page(sheet(runs), len(runs)))


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures and names of a result, those of the steps by ``steps.NAME``."""
    nested = {f"steps.{name}": count for name, count in (result.get("steps") or {}).items()}
    return {name: value for name, value in result.items() if not isinstance(value, (dict, list))} | nested


def _page(made: Sheet, count: int) -> str:
    from lightning_nas.report.parts import Section, Words, render
    from lightning_nas.report.parts import Table as Part

    rows = [row for group in made.groups for row in group]
    marked = frozenset(place for place, row in enumerate(rows) if row.kind != "run")
    table = Part(made.head, [row.cells for row in rows], made.numeric, marked)
    said = (
        "Means are over runs with equal settings that differ in their seed; +- 95 % is half of Student's interval of "
        f"such a mean, from {FEWEST} runs on."
    )
    notes = [Words(text) for text in (said, *made.notes)]
    return render(
        f"Sweep: {made.title}" if made.title else "Sweep", f"{count} runs", [Section("Runs", [table, *notes])]
    )
