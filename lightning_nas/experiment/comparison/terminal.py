"""The table that a comparison prints, and its statements in words."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table

from lightning_nas.experiment.comparison.findings import BETTER, NOTHING, WORSE, Findings
from lightning_nas.experiment.comparison.plan import Plan


def spread(interval: tuple[float, float] | None, form: str = ".4f") -> str:
    """An interval as text.

    >>> spread((0.5, 0.75), ".2f"), spread(None)
    ('0.50 to 0.75', '-')
    """
    return "-" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def statements(plan: Plan, findings: Findings) -> list[str]:
    """What may be said of the searches against the one they are compared with."""
    said = []
    for verdict in (BETTER, WORSE):
        for f in findings.methods:
            if f.verdict == verdict and f.difference is not None and f.p_corrected is not None:
                between = spread(f.difference_interval, "+.4f")
                figures = f"{f.difference:+.4f} ({between}), p {f.p_corrected:.2g}"
                said.append(f"{f.name} is {verdict} than {plan.against}: {figures}.")
    if same := [f.name for f in findings.methods if f.verdict == NOTHING]:
        said.append(f"No difference to {plan.against} is shown of {', '.join(same)}.")
    return said


def as_table(plan: Plan, findings: Findings) -> Table:
    """A row for each method: IQM, probability of improvement, paired difference, corrected p, failed runs."""
    verdict = f"than {plan.against}"
    head = ("method", "IQM", "95 %", "P(better)", "difference", "95 % of all", "p", verdict, "failed")
    table = Table(title=f"{', '.join(plan.tasks)}: {plan.budget}, {len(plan.seeds)} seeds", box=SIMPLE, padding=(0, 1))
    for name in head:
        table.add_column(name, justify="left" if name in ("method", verdict) else "right", no_wrap=True)
    for f in findings.methods:
        table.add_row(
            *(f.name, _number(f.iqm, ".4f"), spread(f.iqm_interval), _number(f.improvement, ".2f")),
            *(_number(f.difference, "+.4f"), spread(f.difference_interval, "+.4f"), _number(f.p_corrected, ".2g")),
            *(f.verdict or "-", f"{f.failed}/{f.runs}"),
        )
    return table


def below(plan: Plan, findings: Findings) -> list[str]:
    """The sentences below the table."""
    return [f"figure: {findings.figure or 'none'}", *statements(plan, findings), *findings.notes]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
