"""The table printed at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from lightning_nas.functional.ranking import TOO_FEW
from lightning_nas.report.quantities import (
    accuracy,
    comparison,
    doubts,
    inherited,
    latency,
    ranking,
    scores,
    steps,
    tabulated,
    targets,
)
from lightning_nas.report.record import number


def summary(result: Mapping[str, Any], architecture: str = "", extra: Mapping[str, str] | None = None) -> Table:
    """The figures of a run as a table; a figure without a value has no row.

    Args:
        result: the content of ``result.json``; ``test_samples`` gives test accuracy its interval, ``latency_device``
            stands beside the latency; ``warnings`` are listed. Kendall's tau of a rank check with too few
            architectures to say anything is left out; the report has it.
        architecture: the options of the answer as text.
        extra: further rows by name, at the end; empty ones are left out.

    Example:
        >>> from rich.console import Console
        >>> found = {"strategy": "fbnet", "dataset": "digits", "test_acc": 0.95, "test_samples": 359, "params": 61346}
        >>> Console(width=60).print(summary(found, "k3_e1 skip"))  # doctest: +NORMALIZE_WHITESPACE
                              fbnet on digits
        ┌───────────────┬──────────────────────────────────────────┐
        │ architecture  │ k3_e1 skip                               │
        │ test accuracy │ 95.00% (95% interval 92.2% to 96.8%, n = │
        │               │ 359)                                     │
        │ parameters    │ 61,346                                   │
        └───────────────┴──────────────────────────────────────────┘
    """
    take = result.get
    rows: dict[str, str | None] = {
        "architecture": architecture,
        "test accuracy": accuracy(result),
        **scores(result),
        "before training": inherited(result),
        "balanced": _shown(take("balanced_acc"), ".2%"),
        "to compare": comparison(result),
        "from a table": tabulated(result),
        "test perplexity": _shown(take("test_ppl"), ".2f"),
        "parameters": _shown(take("params"), ",.0f"),
        "MACs": _shown(take("macs"), ",.0f"),
        "latency": latency(result),
        "target": "\n".join(targets(result)),
        "Kendall's tau": None if take("ranking") == TOO_FEW else ranking(result),
        "steps": steps(result),
        "warning": "\n".join(doubts(result)),
        **(extra or {}),
    }
    table = Table(show_header=False, title=f"{take('strategy') or 'retraining'} on {take('dataset')}")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a long path is shown whole
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    return table


def _shown(content: Any, form: str) -> str | None:
    value = number(content)
    return None if value is None else format(value, form)
