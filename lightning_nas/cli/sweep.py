"""The table over the runs of a Hydra multirun. Imports no torch."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

# header and format by the key in result.json; first the task's own figure, such as test_acc
SCORES = {"test_acc": ("accuracy", ".4f"), "test_ppl": ("perplexity", ".2f")}
FIGURES = {
    "params": ("params", ",.0f"),
    "macs": ("MACs", ",.0f"),
    "latency_measured_ms": ("ms", ".3f"),
    "kendall_tau": ("tau", ".3f"),
    "search_seconds": ("search s", ".1f"),
}


class SweepSummary(Callback):
    """Prints the figures of every run, with mean and 95 % interval over the runs of a strategy on a search space."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook after the last job; prints nothing if no job has a result."""
        folder = Path(config.hydra.sweep.dir)
        found = {str(file.parent.relative_to(folder)): file for file in folder.rglob("result.json")}
        names = sorted(found, key=lambda name: (len(name), name))  # run 10 after run 9
        if names:
            Console().print(summary([(name, json.loads(found[name].read_text())) for name in names]))


def summary(runs: list[tuple[str, dict[str, Any]]]) -> Table:
    """One table of runs by name: a section for each strategy and search space, ending with mean and interval.

    Args:
        runs: the name of each run and the content of its ``result.json``.
    """
    scores = dict.fromkeys(key for _, result in runs for key in result if key.startswith("test_"))
    figures = {key: SCORES.get(key, (key.removeprefix("test_"), ".4g")) for key in scores} | FIGURES
    headers = (header for header, _ in figures.values())
    table = Table("", "run", "seed", *headers, box=SIMPLE, padding=(0, 1), collapse_padding=True)
    for column in table.columns[1:]:  # on a narrow terminal the first is wrapped
        column.no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    spaces = {result["search_space"] for _, result in runs}
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, result in runs:
        on = f" on {result['search_space']}" if len(spaces) > 1 else ""
        groups.setdefault(f"{result['strategy'] or 'retraining'}{on}", []).append((name, result))
    for search, members in groups.items():
        _add(table, search, members, figures)
    if len(spaces) == 1:
        table.title = f"on {spaces.pop()}"
    return table


def _add(
    table: Table, search: str, runs: list[tuple[str, dict[str, Any]]], figures: dict[str, tuple[str, str]]
) -> None:
    for i, (name, result) in enumerate(runs):
        table.add_row(
            "" if i else search, name, str(result["seed"]), *_cells([result], figures, lambda values: values[0])
        )
    if len(runs) > 1:
        results = [result for _, result in runs]
        table.add_row("", "mean", f"n={len(results)}", *_cells(results, figures, statistics.fmean))
        table.add_row("", "+- 95 %", "", *_cells(results, figures, half_interval))
    table.add_section()


def _cells(
    results: list[dict[str, Any]],
    figures: dict[str, tuple[str, str]],
    statistic: Callable[[list[float]], float | None],
) -> list[str]:
    """The statistic of each figure over the runs that have it; "-" where there is none."""
    cells = []
    for key, (_, form) in figures.items():
        values = [result[key] for result in results if result.get(key) is not None]
        value = statistic(values) if values else None
        cells.append("-" if value is None else format(value, form))
    return cells


def half_interval(values: list[float]) -> float | None:
    """Half the width of Student's 95 % interval of the mean; None for a single value.

    >>> round(half_interval([1.0, 2.0, 3.0]), 2)
    2.48
    """
    if len(values) < 2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)
