"""An evolution's generations, and what it found at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_nas.report import markup
from lightning_nas.report.record import number, read_rows
from lightning_nas.report.svg import to_svg
from lightning_nas.report.theme import ACCENT, MUTED, SERIES, SMALL, WIDTH, dress, new_figure

Points = Sequence[tuple[float, float]]


def pareto(points: Points) -> list[tuple[float, float]]:
    """Of (cost, score) those that nothing cheaper or as cheap surpasses or equals, by rising cost.

    >>> pareto([(2, 0.5), (1, 0.4), (3, 0.5), (2, 0.3)])
    [(1, 0.4), (2, 0.5)]
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def scatter(points: Points, title: str, x: str, y: str) -> Figure:
    """(x, y) of each."""
    figure = new_figure(WIDTH / 2, 2.9)
    axes = figure.add_subplot()
    xs, ys = zip(*points, strict=True)
    axes.scatter(xs, ys, s=16, color=ACCENT, alpha=0.45, linewidths=0)
    dress(axes, title=title, x=x, y=y)
    return figure


def best_so_far(points: Points, title: str, x: str, y: str) -> Figure:
    """(number, score) of every candidate, and the best up to each number."""
    figure = scatter(points, title, x, y)
    [axes] = figure.axes
    by_number: dict[float, float] = {}
    for number_, score in points:
        by_number[number_] = max(score, by_number.get(number_, score))
    best = accumulate((by_number[n] for n in sorted(by_number)), max)
    axes.step(sorted(by_number), list(best), where="post", color=SERIES[1], linewidth=1.5, label="best so far")
    axes.legend(loc="lower right", frameon=False, fontsize=SMALL, labelcolor=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def front(points: Points, y: str) -> Figure:
    """(cost, score) of every candidate, and the Pareto front; ``y`` is what a score is."""
    figure = scatter(points, "Pareto front", "cost, in the unit of the latency table", y)
    [axes] = figure.axes
    axes.step(
        *zip(*pareto(points), strict=True), where="post", color=SERIES[1], linewidth=1.5, marker="o", markersize=3
    )
    return figure


def evolution(folder: Path) -> str:
    """The part of the report; nothing for a run without an evolution."""
    rows = read_rows(folder / "evolution.csv")
    cells = [tuple(number(row.get(key)) for key in ("generation", "score", "cost")) for row in rows]
    scored = [(generation, score) for generation, score, _ in cells if generation is not None and score is not None]
    if not scored:
        return ""
    best = max(score for _, score in scored)
    said = f"{len(scored)} candidates in {len({g for g, _ in scored})} generations, the best score {best:.4g}"
    drawn = best_so_far(scored, "Scores by generation", "generation", "score with shared weights")
    parts = [markup.figure(to_svg(drawn, "generations", said), f"{said}. Each dot is one candidate.")]
    if priced := [(cost, score) for _, score, cost in cells if cost is not None and score is not None]:
        parts.append(front_figure(priced, "score with shared weights"))
    return markup.section("Evolution", markup.pair(*parts))


def front_figure(priced: Points, y: str) -> str:
    """The Pareto front as the report shows it."""
    steps = "; ".join(f"{score:.4g} for {cost:.4g}" for cost, score in pareto(priced))
    svg = to_svg(front(priced, y), "pareto", f"Pareto front: {steps}")
    return markup.figure(svg, "On the line: candidates that nothing cheaper surpasses.")
