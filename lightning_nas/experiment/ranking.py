"""MdeNAS' performance-ranking hypothesis (arXiv:1905.07529) as a stage: is the final ranking known early?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

from lightning_nas.errors import ConfigError
from lightning_nas.experiment.result import log_result
from lightning_nas.files import write_json
from lightning_nas.functional.ranking import bootstrap_interval, diverged_last, kendall_tau, p_tau
from lightning_nas.report.page import write_report
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.seeding import generator

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

COLUMNS = ("epoch", "kendall_tau", "low", "high", "p_tau", "networks")


def rank(run: Run) -> None:
    """Train networks of the space alone; write ``curves.csv``, ``ranking.csv``, ``result.json`` and ``report.html``.

    Raises:
        ConfigError: the configuration says nothing of it, or there are too few networks to rank.
    """
    if run.ranking is None:
        raise ConfigError("stages=[ranking] needs ranking=...; experiment=ranking_hypothesis has it")
    made = run.ranking
    architectures = run.space.different(made.networks, generator(run.seed, "ranking"))
    if len(architectures) < 3:
        raise ConfigError(f"ranking.networks: {len(architectures)} networks of {run.space.name}; legal: at least 3")
    curves = torch.tensor(made(run.space, architectures, run.data, run.task, run.seed), dtype=torch.float64)
    scored = zip(architectures, curves.tolist(), strict=True)
    CSVTable(run.folder / "curves.csv").write(
        [
            {
                "epoch": epoch,
                "key": architecture.key,
                "score": score if math.isfinite(score) else None,
                "choices": str(architecture),
            }
            for architecture, curve in scored
            for epoch, score in enumerate(curve)
        ]
    )
    rows = agreement(diverged_last(curves), run.seed)
    CSVTable(run.folder / "ranking.csv", COLUMNS).write(rows)
    _tell(run, rows)


def agreement(curves: torch.Tensor, seed: int) -> list[dict[str, Any]]:
    """Kendall's tau between the ranking after each epoch and the final one, with its interval and (tau + 1) / 2.

    Args:
        curves: (networks, epochs), higher is better.
        seed: of the bootstrap.
    """
    rows = []
    for epoch, scores in enumerate(curves.T):
        tau = kendall_tau(scores, curves[:, -1]).item()
        low, high = bootstrap_interval(kendall_tau, scores, curves[:, -1], generator(seed, "bootstrap", epoch))
        figures = {"kendall_tau": tau, "low": low, "high": high, "p_tau": p_tau(tau)}
        known = {name: None if math.isnan(value) else value for name, value in figures.items()}
        rows.append({"epoch": epoch, **known, "networks": len(curves)})
    return rows


def _tell(run: Run, rows: list[dict[str, Any]]) -> None:
    first, middle = rows[0], rows[(len(rows) - 1) // 2]
    result = {
        "search_space": run.space.name,
        "dataset": run.names.dataset,
        "seed": run.seed,
        "networks": first["networks"],
        "epochs": len(rows),
        "kendall_tau_first": first["kendall_tau"],
        "kendall_tau_middle": middle["kendall_tau"],
    }
    write_json(run.folder / "result.json", result)
    log_result(run, result)
    write_report(run.folder, None)
    table = RichTable(title=f"ranking of {first['networks']} networks on {result['dataset']}")
    for column in ("after epoch", "tau to the final ranking", "interval", "pairs in the final order"):
        table.add_column(column)
    for row in {row["epoch"]: row for row in (first, middle, rows[-1])}.values():
        if row["kendall_tau"] is None:  # all scores are equal
            table.add_row(str(row["epoch"] + 1), *["undefined"] * 3)
            continue
        interval = "undefined" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(str(row["epoch"] + 1), f"{row['kendall_tau']:.3f}", interval, f"{row['p_tau']:.0%}")
    console = Console(markup=False, emoji=False)
    console.print(table)
    console.print(f"report: {run.folder / 'report.html'}")
