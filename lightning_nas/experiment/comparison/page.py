"""``comparison.html``: one file with the tables and pictures of a comparison, which loads nothing."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence

from lightning_nas.experiment.comparison import pictures
from lightning_nas.experiment.comparison.findings import REGRET, Finding, Findings
from lightning_nas.experiment.comparison.known import Known
from lightning_nas.experiment.comparison.plan import Plan
from lightning_nas.experiment.comparison.practices import Practice
from lightning_nas.experiment.comparison.runs import Curve, Row
from lightning_nas.experiment.comparison.terminal import spread, statements
from lightning_nas.report.parts import Block, Figure, Part, Section, Table, Words, render
from lightning_nas.report.svg import to_svg

_METHODS = (
    "The interquartile mean (IQM) is that of the middle half of the runs, its 95 % interval a bootstrap in which the "
    "runs of each task are drawn anew. The probability of improvement is that of a run being better than one of "
    "{against}, a tie counting half. The difference is the mean over pairs of runs of one seed; its interval holds "
    "with 95 % for all {count} searches together. p is of Wilcoxon's signed-rank test, corrected by Holm. A method is "
    "called better or worse only where the interval of the difference excludes 0 and p is below 0.05."
)


def page(
    plan: Plan,
    rows: Sequence[Row],
    curves: Sequence[Curve],
    known: Mapping[str, Known],
    findings: Findings,
    filled: Sequence[Practice],
    command: Sequence[str],
) -> str:
    """The page as HTML."""
    title = f"{len(plan.searches)} searches on {', '.join(plan.tasks)}"
    lede = f"{len(rows)} runs, {len(plan.seeds)} seeds, budget {plan.budget} a search"
    sections = [
        _figures(plan, findings),
        _ranks(findings),
        _anytime(plan, rows, curves, known, findings),
        _fidelity(findings),
        _volumes(findings),
        _failed(rows),
        _practices(filled),
        Section("To repeat", [Block(shlex.join(command))]),
    ]
    return render(title, lede, sections)


def _figures(plan: Plan, findings: Findings) -> Section:
    head = ["method", "IQM", "95 % interval", "gap to the best", "probability of improvement", "difference", "interval"]
    head += ["p corrected", "against " + plan.against, "search s", "training s", "failed"]
    rows = [
        [
            *(f.name, _number(f.iqm), spread(f.iqm_interval), _number(f.gap)),
            _number(f.improvement, ".2f") + (f" ({spread(f.improvement_interval, '.2f')})" if f.improvement else ""),
            *(_number(f.difference, "+.4f"), spread(f.difference_interval, "+.4f"), _number(f.p_corrected, ".2g")),
            f.verdict or ("the one compared with" if f.name == plan.against else "not searched"),
            *(_number(f.training_seconds, ",.1f"), _number(f.retrain_seconds, ",.1f"), f"{f.failed}/{f.runs}"),
        ]
        for f in findings.methods
    ]
    marked = frozenset(place for place, f in enumerate(findings.methods) if f.verdict == "better")
    numeric = frozenset({1, 3, 5, 7, 9, 10, 11})
    drawn = to_svg(pictures.intervals(findings.methods, "IQM"), "iqm", _said(findings.methods))
    about = _METHODS.format(against=plan.against, count=findings.comparisons)
    parts: list[Part] = [Words(text) for text in statements(plan, findings)]
    parts += [Table(head, rows, numeric, marked), Figure(drawn, "IQM and its interval; grey: not searched.")]
    parts += [Words(text) for text in (f"Figure: {findings.figure}.", about, *findings.notes)]
    return Section("Figures", parts)


def _said(methods: Sequence[Finding]) -> str:
    return "; ".join(f"{f.name} {f.iqm:.4f}" for f in methods if f.iqm is not None)


def _ranks(findings: Findings) -> Section:
    if findings.ranks is None:
        return Section("Ranks over tasks")
    ranks = findings.ranks
    words = "; ".join(f"{name} {rank:.2f}" for name, rank in ranks.ranks.items())
    told = f"Friedman's test (Iman and Davenport): p {ranks.p:.2g}. " + (
        "Bars join methods that Nemenyi's test does not tell apart."
        if ranks.p < 0.05
        else "The methods' ranks do not differ by more than chance; no pair is told apart."
    )
    return Section(
        "Ranks over tasks",
        [Figure(to_svg(pictures.critical_differences(ranks), "ranks", f"Mean ranks: {words}"), told)],
    )


def _anytime(
    plan: Plan, rows: Sequence[Row], curves: Sequence[Curve], known: Mapping[str, Known], findings: Findings
) -> Section:
    parts = list[Part]()
    for number, task in enumerate(plan.tasks):
        own = [curve for curve in curves if curve.task == task]
        if not own:
            continue
        table = known.get(task)
        points = {} if table is None else _without_trials(plan, rows, task)
        y = "reward of the best trial" if table is None else "test accuracy of the best trial"
        ends = "; ".join(f"{curve.method} {curve.values[-1]:.4f}" for curve in own if curve.seed == plan.seeds[0])
        drawn = pictures.anytime(own, points, y, table.best if table else None)
        caption = f"{task}: means over seeds of the best so far." + (
            " The dotted line is the optimum." if table else ""
        )
        parts.append(Figure(to_svg(drawn, f"anytime-{number}", f"Curves of {task}, which end at {ends}"), caption))
    reaching = [[f.name, *reached(f)] for f in findings.methods if f.reached is not None]
    if reaching:
        head = ["method", f"runs within {REGRET:.0%} of the best", "median trials until then", "median seconds"]
        parts.append(Table(head, reaching, frozenset({1, 2, 3})))
    return Section("Over trials and time", parts)


def _without_trials(plan: Plan, rows: Sequence[Row], task: str) -> dict[str, tuple[float, float]]:
    """Mean seconds and figure of searches that share weights, by method."""
    found = {}
    for name in plan.searches:
        own = [row for row in rows if (row.task, row.method) == (task, name) and row.trials is None]
        ended = [(row.training_seconds, row.figure) for row in own if row.figure is not None]
        if pairs := [(seconds, figure) for seconds, figure in ended if seconds is not None]:
            found[name] = (statistics.fmean(s for s, _ in pairs), statistics.fmean(f for _, f in pairs))
    return found


def _fidelity(findings: Findings) -> Section:
    head = ["method", "mean tau", "95 % interval", "over that of multiply-adds", "95 % interval"]
    rows = [
        [
            *(f.name, _number(f.tau, ".3f"), spread(f.tau_interval, ".3f")),
            *(_number(f.tau_over_macs, "+.3f"), spread(f.tau_over_macs_interval, "+.3f")),
        ]
        for f in findings.methods
        if f.tau is not None
    ]
    about = "Kendall's tau of each search's ranking against the truth of its rank check, mean over runs."
    return Section("Rank fidelity", [Table(head, rows, frozenset({1, 3})), Words(about)] if rows else [])


def _volumes(findings: Findings) -> Section:
    rows = [[f.name, f"{f.volume:.3f}"] for f in findings.methods if f.volume is not None]
    about = (
        "Area that a method's answers dominate in figure and cost, as a share of the rectangle between the worst "
        "figure with the highest cost and the best figure at no cost."
    )
    title = "Pareto hypervolume"
    return Section(title, [Table(["method", "hypervolume"], rows, frozenset({1})), Words(about)] if rows else [])


def _failed(rows: Sequence[Row]) -> Section | None:
    failed = [[row.task, row.method, str(row.seed), row.failed] for row in rows if row.failed is not None]
    return Section("Failed runs", [Table(["task", "method", "seed", "reason"], failed)]) if failed else None


def _practices(filled: Sequence[Practice]) -> Section:
    rows = [[str(p.number), p.title, p.said, "machine" if p.by_machine else "person"] for p in filled]
    count = sum(p.by_machine for p in filled)
    about = (
        "After Lindauer and Hutter, Best Practices for Scientific Research on Neural Architecture Search (2020): "
        f"{count} of {len(filled)} are filled in by the machine, the others say what a person must add."
    )
    return Section("Best practices", [Table(["", "practice", "here", "filled by"], rows), Words(about)])


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def reached(finding: Finding) -> tuple[str, str, str]:
    """How many runs came near the best known, after how many trials and seconds; "-" if half of them did not."""
    said = f"{finding.reached} of {finding.runs - finding.failed}"
    return said, _number(finding.trials_to, ",.0f"), _number(finding.seconds_to, ",.0f")
