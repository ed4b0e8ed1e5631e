"""A comparison from beginning to end: its runs, ``comparison.csv``, ``comparison.json`` and ``comparison.html``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_nas.errors import NumericalError
from lightning_nas.experiment.comparison.findings import Findings, find
from lightning_nas.experiment.comparison.on_ray import Cluster
from lightning_nas.experiment.comparison.page import page
from lightning_nas.experiment.comparison.plan import Maker, Plan, check_unchanged
from lightning_nas.experiment.comparison.practices import Practice, hardware, practices, versions
from lightning_nas.experiment.comparison.runs import COLUMNS, Row, prepare, run_all
from lightning_nas.experiment.folder import locked
from lightning_nas.experiment.loggers import closed, make_loggers
from lightning_nas.experiment.settings import Names
from lightning_nas.files import atomic, write_json

FORMAT = 1


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        folder: of its files.
        plan: what was run.
        rows: one a run.
        findings: figures by method.
        practices: the best practices, filled in.
    """

    folder: Path
    plan: Plan
    rows: Sequence[Row]
    findings: Findings
    practices: Sequence[Practice]


def compare_all(
    plan: Plan, maker: Maker, command: Sequence[str], say: Callable[[str], None], cluster: Cluster | None = None
) -> Comparison:
    """Make the runs that are missing, and write the files of the comparison.

    Args:
        plan: what to run.
        maker: of the runs.
        command: that makes the comparison again, for the page.
        say: told a line after each run.
        cluster: where the runs are made; None for this process, one after another.

    Raises:
        InputError: the folder has another comparison, or a table or the hand-made network cannot be used.
        NumericalError: every run failed.
    """
    with locked(plan.folder):
        known = prepare(plan, maker)
        check_unchanged(plan, maker)
        rows, curves = run_all(plan, maker, known, say, cluster)
        findings = find(plan, rows, curves, known, torch.Generator().manual_seed(0))
        filled = practices(plan, rows, curves, findings, command, len(known) == len(plan.tasks))
        made = Comparison(plan.folder, plan, rows, findings, filled)
        _write(made, command, page(plan, rows, curves, known, findings, filled, command))
    if all(row.failed is not None for row in rows):
        raise NumericalError(f"all {len(rows)} runs of the comparison failed; the first: {rows[0].failed}")
    return made


def _write(made: Comparison, command: Sequence[str], html: str) -> None:
    with atomic(made.folder / "comparison.csv") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(row) for row in made.rows)
    write_json(made.folder / "comparison.json", content(made, command))
    with atomic(made.folder / "comparison.html") as file:
        file.write(html)


def log_comparison(made: Comparison, factory: Callable[..., Any]) -> None:
    """Log the table of the methods and the page to a W&B run of their own.

    Args:
        made: the comparison.
        factory: makes the logger.
    """
    import wandb

    with closed():
        [logger] = make_loggers([factory], Names("comparison", ", ".join(made.plan.tasks)), {}, "comparison")
        rows = [asdict(finding) for finding in made.findings.methods]
        logger.log_table("methods", columns=list(rows[0]), data=[[_plain(v) for v in row.values()] for row in rows])
        page = (made.folder / "comparison.html").read_text(encoding="utf-8")
        logger.experiment.log({"comparison/page": wandb.Html(page, inject=False)})


def _plain(value: Any) -> Any:
    """A number as it is, everything else as text."""
    return value if isinstance(value, int | float | None) else str(value)


def content(made: Comparison, command: Sequence[str]) -> dict[str, Any]:
    """The content of ``comparison.json``."""
    plan, found = made.plan, made.findings
    return {
        "format": FORMAT,
        "command": list(command),
        "versions": versions(),
        "hardware": hardware(),
        "tasks": list(plan.tasks),
        "seeds": list(plan.seeds),
        "budget": {plan.budget.unit: plan.budget.amount},
        "against": plan.against,
        "figure": found.figure,
        "best": dict(found.best),
        "comparisons": found.comparisons,
        "methods": [asdict(finding) for finding in found.methods],
        "ranks": None if found.ranks is None else asdict(found.ranks),
        "notes": list(found.notes),
        "failed": [
            {"task": row.task, "method": row.method, "seed": row.seed, "reason": row.failed}
            for row in made.rows
            if row.failed is not None
        ],
        "practices": [asdict(practice) for practice in made.practices],
    }
