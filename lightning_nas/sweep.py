"""The end of a Hydra multirun: one table over its runs. Never imports torch."""

import json
import logging
import statistics
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

log = logging.getLogger(__name__)

FIGURES = {
    "test_acc": ".4f",
    "params": ",.0f",
    "macs": ",.0f",
    "latency_measured_ms": ".3f",
    "kendall_tau": ".3f",
    "search_seconds": ".1f",
}


class SweepSummary(Callback):
    """Prints every run's figures, then mean and 95 % interval of each strategy and search space over its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's hook after the last job."""
        folder = Path(config.hydra.sweep.dir)
        files = sorted(folder.glob("*/result.json"), key=lambda file: (len(file.parent.name), file.parent.name))
        if files:
            Console().print(summary([(file.parent.name, json.loads(file.read_text())) for file in files]))


def summary(runs: list[tuple[str, dict[str, Any]]]) -> Table:
    """A table of runs by name, with one row of mean +- half the 95 % interval for each group of more than one."""
    table = Table("run", "strategy", "search space", "seed", *FIGURES, title="sweep")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, result in runs:
        group = (str(result["strategy"]), str(result["search_space"]))
        groups.setdefault(group, []).append(result)
        cells = ["-" if result[key] is None else format(result[key], form) for key, form in FIGURES.items()]
        table.add_row(name, *group, str(result["seed"]), *cells)
    table.add_section()
    for group, results in groups.items():
        if len(results) > 1:
            cells = [_mean([r[key] for r in results if r[key] is not None], form) for key, form in FIGURES.items()]
            table.add_row("mean", *group, f"n={len(results)}", *cells)
    return table


def _mean(values: list[float], form: str) -> str:
    """Mean and half-width of Student's 95 % interval.

    >>> _mean([1.0, 2.0, 3.0], ".2f")
    '2.00 +- 2.48'
    """
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    if len(values) == 1:
        return mean
    half = _student(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} +- {format(half, form)}"


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))
