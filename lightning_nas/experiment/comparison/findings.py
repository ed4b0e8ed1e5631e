"""What the runs of a comparison show, and what they do not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_nas.experiment.comparison.known import Known
from lightning_nas.experiment.comparison.plan import Method, Plan
from lightning_nas.experiment.comparison.runs import Curve, Row
from lightning_nas.functional.comparing import (
    cliques,
    critical_difference,
    friedman,
    holm,
    hypervolume,
    improvement_over_tasks,
    interquartile_mean,
    mean_over_tasks,
    optimality_gap,
    pooled,
    signed_rank_p,
    stratified_interval,
    time_to,
)

ALPHA = 0.05
REGRET = 0.01
"""Of the time that a search needs to come this near to the best known figure."""
BETTER, WORSE, NOTHING = "better", "worse", "no difference shown"
_RESAMPLES = 10_000  # of an interval that is corrected for many comparisons there are few beyond its ends
Interval = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """The figures of one method.

    Attributes:
        name: of the method.
        kind: of it.
        runs: that were asked for.
        failed: of these.
        iqm: interquartile mean over all runs; of several tasks, of figures from 0 (mean of one random draw) to 1 (best
            known) on each. None if no run ended.
        iqm_interval: of it, 95 %.
        gap: mean shortfall from the best known figure of the task.
        means: mean figure by task.
        improvement: probability that a run is better than one of the method compared with.
        improvement_interval: of it, 95 %.
        difference: mean over tasks of the mean difference of runs with one seed from the method compared with.
        difference_interval: of it; 95 % for all searches together.
        p: of Wilcoxon's signed-rank test on these differences.
        p_corrected: by Holm for the number of searches.
        verdict: "better", "worse" or "no difference shown"; empty for networks that nobody searched for.
        training_seconds: mean of the runs.
        retrain_seconds: likewise.
        tau: mean Kendall tau of the rank checks.
        tau_interval: of it, 95 %.
        tau_over_macs: mean of tau minus that of multiply-adds on the same architectures.
        tau_over_macs_interval: of it, 95 %.
        reached: runs that came within 1 % of the best known figure.
        trials_to: median number of trials until then; None unless more than half of the runs did.
        seconds_to: median seconds of training until then, likewise.
        volume: Pareto hypervolume of all answers, share of the possible by task, mean over tasks; None without costs.
    """

    name: str
    kind: str
    runs: int
    failed: int
    iqm: float | None = None
    iqm_interval: Interval | None = None
    gap: float | None = None
    means: Mapping[str, float] = field(default_factory=dict)
    improvement: float | None = None
    improvement_interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    p: float | None = None
    p_corrected: float | None = None
    verdict: str = ""
    training_seconds: float | None = None
    retrain_seconds: float | None = None
    tau: float | None = None
    tau_interval: Interval | None = None
    tau_over_macs: float | None = None
    tau_over_macs_interval: Interval | None = None
    reached: int | None = None
    trials_to: float | None = None
    seconds_to: float | None = None
    volume: float | None = None


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over tasks.

    Attributes:
        ranks: by method, best first; 1 is the best.
        p: of Friedman's test, by the F statistic of Iman and Davenport.
        width: Nemenyi's critical difference.
        alike: stretches of methods that it does not tell apart: (first, last) in ``ranks``.
    """

    ranks: Mapping[str, float]
    p: float
    width: float
    alike: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Findings:
    """What a comparison shows.

    Attributes:
        methods: one a method, in the order of the plan.
        comparisons: number of searches that are compared with one; intervals and p values are corrected for it.
        best: best known figure by task, and whether it is that of a table.
        figure: what is compared, in words.
        ranks: over tasks; None for one task.
        notes: what limits the statements, in words.
    """

    methods: Sequence[Finding]
    comparisons: int
    best: Mapping[str, float]
    figure: str
    ranks: Ranks | None
    notes: Sequence[str]


def find(
    plan: Plan, rows: Sequence[Row], curves: Sequence[Curve], known: Mapping[str, Known], generator: torch.Generator
) -> Findings:
    """Compute all figures of a comparison.

    Args:
        plan: of the comparison.
        rows: one a run.
        curves: of the searches by trials.
        known: tables by task.
        generator: draws all resamples, on the CPU.
    """
    figures = {(row.task, row.method, row.seed): row.figure for row in rows if row.figure is not None}
    best = {task: _best(task, figures, known.get(task)) for task in plan.tasks}
    work = _Work(plan, rows, figures, best, generator)
    reached = _reached(plan, curves, known)
    volumes = _volumes(plan, rows)
    made = [work.finding(method, reached.get(method.name, {}), volumes.get(method.name)) for method in plan.methods]
    return Findings(
        methods=_corrected(made, work.comparisons),
        comparisons=work.comparisons,
        best={task: value for task, value in best.items() if value is not None},
        figure="; ".join(dict.fromkeys(row.source for row in rows if row.source)),
        ranks=_ranks(plan, work),
        notes=_notes(plan, rows, made, work.comparisons),
    )


def _best(task: str, figures: Mapping[tuple[str, str, int], float], known: Known | None) -> float | None:
    """The best figure that a table knows, else that of all runs."""
    if known is not None:
        return known.best
    return max((figure for (of, _, _), figure in figures.items() if of == task), default=None)


@dataclass
class _Work:
    plan: Plan
    rows: Sequence[Row]
    figures: Mapping[tuple[str, str, int], float]
    best: Mapping[str, float | None]
    generator: torch.Generator

    @property
    def comparisons(self) -> int:
        return len([name for name in self.plan.searches if name != self.plan.against])

    def strata(self, method: str) -> dict[str, Tensor]:
        """The figures of a method by task, in the order of seeds; tasks without any are left out."""
        found = {
            task: [self.figures[key] for seed in self.plan.seeds if (key := (task, method, seed)) in self.figures]
            for task in self.plan.tasks
        }
        return {task: torch.tensor(values, dtype=torch.float64) for task, values in found.items() if values}

    def interval(
        self, statistic: Callable[[Sequence[Tensor]], Tensor], strata: Sequence[Tensor], level: float = 1 - ALPHA
    ) -> Interval:
        return stratified_interval(statistic, strata, self.generator, _RESAMPLES, level)

    def finding(self, method: Method, reached: Mapping[str, Any], volume: float | None) -> Finding:
        rows = [row for row in self.rows if row.method == method.name]
        told: dict[str, Any] = {"runs": len(rows), "failed": sum(row.failed is not None for row in rows), **reached}
        strata = self.strata(method.name)
        if strata:
            scaled = [self._scaled(task, values) for task, values in strata.items()]
            gaps = [optimality_gap(values, self._best_of(task)) for task, values in strata.items()]
            told |= {
                "iqm": float(interquartile_mean(torch.cat(scaled))),
                "iqm_interval": self.interval(pooled(interquartile_mean), scaled),
                "gap": float(torch.stack(gaps).mean()),
                "means": {task: float(values.mean()) for task, values in strata.items()},
                **self._times(rows),
                **self._fidelity(rows),
            }
        if method.name != self.plan.against:
            told |= self._against(method, strata)
        return Finding(method.name, method.kind, volume=volume, **told)

    def _best_of(self, task: str) -> float:
        best = self.best[task]
        assert best is not None
        return best

    def _scaled(self, task: str, values: Tensor) -> Tensor:
        """The figures as they are; with several tasks from 0 for a random draw to 1 for the best known."""
        if len(self.plan.tasks) == 1:
            return values
        drawn = self.strata("random_sampling").get(task)
        low = float(values.min() if drawn is None else drawn.mean())
        span = self._best_of(task) - low
        return (values - low) / span if span > 0 else torch.ones_like(values)

    def _against(self, method: Method, strata: Mapping[str, Tensor]) -> dict[str, Any]:
        """The comparison with one method: over all pairs of runs, and over pairs of one seed."""
        other = self.strata(self.plan.against)
        tasks = [task for task in strata if task in other]
        differences = [values for task in tasks if len(values := self._differences(method.name, task))]
        if not tasks or not differences:
            return {}
        searches = method.kind == "search"
        level = 1 - ALPHA / (self.comparisons if searches else 1)
        runs = [*(strata[task] for task in tasks), *(other[task] for task in tasks)]
        return {
            "improvement": float(improvement_over_tasks(runs)),
            "improvement_interval": self.interval(improvement_over_tasks, runs),
            "difference": float(mean_over_tasks(differences)),
            "difference_interval": self.interval(mean_over_tasks, differences, level),
            "p": signed_rank_p(torch.cat(differences)) if searches else None,
        }

    def _differences(self, method: str, task: str) -> Tensor:
        keys = [((task, method, seed), (task, self.plan.against, seed)) for seed in self.plan.seeds]
        pairs = [(self.figures[a], self.figures[b]) for a, b in keys if a in self.figures and b in self.figures]
        return torch.tensor([a - b for a, b in pairs], dtype=torch.float64)

    def _times(self, rows: Sequence[Row]) -> dict[str, float]:
        said = {}
        for key in ("training_seconds", "retrain_seconds"):
            if values := [value for row in rows if (value := getattr(row, key)) is not None]:
                said[key] = statistics.fmean(values)
        return said

    def _fidelity(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Kendall's tau of the rank checks, and its excess over that of multiply-adds."""
        taus = _by_task([(row.task, row.kendall_tau) for row in rows])
        over = _by_task(
            [
                (row.task, row.kendall_tau - row.kendall_tau_macs)
                for row in rows
                if row.kendall_tau is not None and row.kendall_tau_macs is not None
            ]
        )
        said: dict[str, Any] = {}
        for name, strata in (("tau", taus), ("tau_over_macs", over)):
            if strata:
                said[name] = float(mean_over_tasks(strata))
                said[f"{name}_interval"] = self.interval(mean_over_tasks, strata)
        return said


def _by_task(values: Sequence[tuple[str, float | None]]) -> list[Tensor]:
    found: dict[str, list[float]] = {}
    for task, value in values:
        if value is not None:
            found.setdefault(task, []).append(value)
    return [torch.tensor(each, dtype=torch.float64) for each in found.values()]


def _corrected(made: Sequence[Finding], comparisons: int) -> list[Finding]:
    """The findings with corrected p values and verdicts.

    "better" and "worse" need both: an interval of the paired difference without 0, corrected for the number of
    comparisons, and a corrected p value below 5 %. The bootstrap of a few pairs is too narrow to be trusted alone:
    three differences above 0 never give an interval that holds 0.
    """
    tested = [finding.name for finding in made if finding.p is not None]
    found = [finding.p for finding in made if finding.p is not None]
    untested = [1.0] * (comparisons - len(tested))  # searches of which no run ended
    corrected = dict(zip(tested, holm([*found, *untested]), strict=False))
    return [
        finding
        if (p := corrected.get(finding.name)) is None
        else replace(finding, p_corrected=p, verdict=_verdict(finding.difference_interval, p))
        for finding in made
    ]


def _verdict(interval: Interval | None, p: float) -> str:
    if interval is None or p >= ALPHA or interval[0] <= 0 <= interval[1]:
        return NOTHING
    return BETTER if interval[0] > 0 else WORSE


def _reached(plan: Plan, curves: Sequence[Curve], known: Mapping[str, Known]) -> dict[str, dict[str, Any]]:
    """When the searches by trials came within 1 % of the best known."""
    best = {
        task: known[task].best
        if task in known
        else max((max(curve.values) for curve in curves if curve.task == task), default=math.nan)
        for task in plan.tasks
    }
    said: dict[str, dict[str, Any]] = {}
    for name in plan.searches:
        own = [curve for curve in curves if curve.method == name]
        if not own:
            continue
        trials, seconds = list[float](), list[float]()
        for curve in own:
            values = torch.tensor(curve.values, dtype=torch.float64)
            numbers = torch.arange(1, len(values) + 1, dtype=torch.float64)
            found = time_to(numbers, values, best[curve.task] - REGRET)
            if found is not None:
                trials.append(found)
                seconds.append(curve.seconds[int(found) - 1])
        said[name] = {"reached": len(trials)}
        if 2 * len(trials) > len(own):
            infinite = [math.inf] * (len(own) - len(trials))
            said[name] |= {
                "trials_to": statistics.median_high([*trials, *infinite]),
                "seconds_to": statistics.median_high([*seconds, *infinite]),
            }
            said[name] = {key: value for key, value in said[name].items() if math.isfinite(value)}
    return said


def _volumes(plan: Plan, rows: Sequence[Row]) -> dict[str, float]:
    """Pareto hypervolume of each method's answers, as a share of the rectangle that all runs span; mean over tasks.

    Only where every run has a cost: the answers' costs by the latency table that was asked for.
    """
    ended = [row for row in rows if row.figure is not None]
    if not ended or any(row.cost is None for row in ended):
        return {}
    shares: dict[str, list[float]] = {}
    for task in plan.tasks:
        own = [row for row in ended if row.task == task]
        worst = min((row.figure or 0.0 for row in own), default=0.0)
        dearest = max((row.cost or 0.0 for row in own), default=0.0)
        whole = (max((row.figure or 0.0 for row in own), default=0.0) - worst) * dearest
        for method in plan.methods:
            answers = [(row.figure or 0.0, row.cost or 0.0) for row in own if row.method == method.name]
            if answers and whole > 0:
                scores, costs = torch.tensor(answers, dtype=torch.float64).unbind(1)
                shares.setdefault(method.name, []).append(hypervolume(scores, costs, (worst, dearest)) / whole)
    return {name: statistics.fmean(values) for name, values in shares.items()}


def _ranks(plan: Plan, work: _Work) -> Ranks | None:
    """Friedman's test and Nemenyi's critical difference over tasks, for methods with a figure on all of them."""
    means = {method.name: work.strata(method.name) for method in plan.methods}
    whole = [name for name, strata in means.items() if len(strata) == len(plan.tasks)]
    if len(plan.tasks) < 2 or len(whole) < 2:
        return None
    figures = torch.stack([torch.stack([means[name][task].mean() for name in whole]) for task in plan.tasks])
    test = friedman(figures)
    ranks = dict(sorted(zip(whole, test.ranks, strict=True), key=lambda pair: pair[1]))
    width = critical_difference(len(whole), len(plan.tasks), ALPHA)
    return Ranks(ranks, test.f_p, width, cliques(list(ranks.values()), width))


def _notes(plan: Plan, rows: Sequence[Row], made: Sequence[Finding], comparisons: int) -> list[str]:
    pairs = len(plan.seeds) * len(plan.tasks)
    said = []
    if comparisons and comparisons * 2.0 ** (1 - pairs) >= ALPHA:
        needed = 1 + math.ceil(math.log2(comparisons / ALPHA) + 1e-9)
        smallest = min(1.0, comparisons * 2.0 ** (1 - pairs))
        said.append(
            f"{pairs} pairs cannot show a difference among {comparisons + 1} searches: the smallest corrected p is "
            f"{smallest:.2g}; {math.ceil(needed / len(plan.tasks))} seeds can"
        )
    if failed := sum(row.failed is not None for row in rows):
        names = [finding.name for finding in made if finding.failed]
        said.append(
            f"{failed} of {len(rows)} runs failed ({', '.join(names)}); they are left out of the figures, and their "
            "partners of one seed out of the differences"
        )
    if len(plan.tasks) > 1:
        said.append("IQM over tasks: 0 is the mean of one random draw on a task, 1 its best known figure")
    said += [f"not among the methods: {reason}" for reason in plan.left_out]
    return said
