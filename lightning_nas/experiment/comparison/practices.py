"""The best practices of Lindauer and Hutter (JMLR 21 (2020), arXiv:1909.02453) as a table, filled as far as files can.

What only a person knows (ablations, tuning, whether the code is published) is named as missing.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lightning_nas import __version__
from lightning_nas.experiment.comparison.findings import Findings
from lightning_nas.experiment.comparison.plan import RANDOM_WS, Plan
from lightning_nas.experiment.comparison.runs import Curve, Row
from lightning_nas.latency.torch_device import device_description

_PACKAGES = ("torch", "pytorch-lightning", "torchvision", "numpy", "scipy", "hydra-core")


@dataclass(frozen=True)
class Practice:
    """One practice.

    Attributes:
        number: in the paper.
        title: in our words.
        said: what the comparison says of it, or what a person must add.
        by_machine: whether it was filled in by the comparison.
    """

    number: int
    title: str
    said: str
    by_machine: bool = True


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"lightning_nas": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Processor, operating system and number of cores, and the graphics card if there is one."""
    said = f"{device_description('cpu')}, {os.cpu_count()} cores"
    return f"{said}; {device_description('cuda')}" if torch.cuda.is_available() else said


def commit() -> str | None:
    """The commit of this library's checkout; None where it is installed from a package."""
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        ended = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - as written
        return ended.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def practices(
    plan: Plan, rows: Sequence[Row], curves: Sequence[Curve], findings: Findings, command: Sequence[str], tables: bool
) -> list[Practice]:
    """The fourteen practices.

    Args:
        plan: of the comparison.
        rows: one a run.
        curves: of the searches by trials.
        findings: of the runs.
        command: that makes the comparison again.
        tables: whether every task has a table of its truths.
    """
    code = f"lightning_nas {__version__}" + (f", commit {at}" if (at := commit()) else "")
    failed = sum(row.failed is not None for row in rows)
    spent = sum(row.training_seconds or 0.0 for row in rows) / 3600
    trained = sum(row.retrain_seconds or 0.0 for row in rows) / 3600
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    seeds = ", ".join(map(str, plan.seeds[:20])) + (", ..." if len(plan.seeds) > 20 else "")
    weights = f", {RANDOM_WS}" if RANDOM_WS in plan.searches else ""
    return [
        Practice(1, "Code of the training pipeline", f"{code}; config.yaml in each of the {len(rows)} folders of runs"),
        Practice(2, "Code of the methods", f"{code}: {', '.join(plan.searches)}"),
        Practice(3, "Code is released now, not once it is tidy", "to add: where the code of your own is", False),
        Practice(4, "One benchmark, not only one data set", f"all methods on the same tasks: {', '.join(plan.tasks)}"),
        Practice(5, "Ablations", "to add: runs without each part of a method of your own", False),
        Practice(6, "One protocol of evaluation", f"for all methods: {findings.figure or 'no run has a figure'}"),
        Practice(
            7,
            "Performance over time",
            f"budget {plan.budget} for every search; {len(curves)} curves over trials and seconds"
            + ("" if curves else ": no search by trials takes part"),
        ),
        Practice(
            8,
            "Random sampling and random search",
            f"both are among the methods: random_sampling (one draw), random{weights}; compared with {plan.against}",
        ),
        Practice(
            9,
            "Several runs, seeds named",
            f"{len(plan.seeds)} seeds: {seeds}; the same for every method; {failed} of {len(rows)} runs failed",
        ),
        Practice(
            10,
            "Tabular or surrogate benchmarks",
            "the truth of every answer is read from a table"
            if tables
            else "none for these tasks: answers were trained",
        ),
        Practice(
            11,
            "Confounding factors",
            "one machine, one version of everything, one number of threads; the settings of every run by key are in "
            "asked.json",
        ),
        Practice(12, "Tuning of hyper-parameters", "to add: how the settings were chosen, on which seeds", False),
        Practice(
            13,
            "Time of the whole method",
            f"{spent:.2f} hours of search (by trials: of training, measured or read from a table), {trained:.2f} hours "
            "of training answers; by method in the table above, by run in comparison.csv",
        ),
        Practice(14, "All details", f"{hardware()}; {known}; command: {shlex.join(command)}"),
    ]
