"""The generations of an evolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_nas.report.candidates import is_answer, read_answer
from lightning_nas.report.figures import dots, mark_answer
from lightning_nas.report.parts import Figure as Picture
from lightning_nas.report.parts import Pair, Section
from lightning_nas.report.record import number, read_rows
from lightning_nas.report.svg import to_svg
from lightning_nas.report.theme import MUTED, SERIES, SMALL, WIDTH, dress, new_figure

Points = Sequence[tuple[float, float]]


def scatter(points: Points, title: str, x: str, y: str, answers: Points = ()) -> Figure:
    """A dot for each (x, y), a diamond for the answer."""
    figure = new_figure(WIDTH / 2, 2.9)
    axes = figure.add_subplot()
    dots(axes, points, [f"{x} {a:.6g}, {y} {b:.4g}" for a, b in points])
    mark_answer(axes, answers)
    dress(axes, title=title, x=x, y=y)
    return figure


def best_so_far(points: Points, title: str, x: str, y: str, answers: Points = ()) -> Figure:
    """(number, score) of every candidate, and the best up to each number."""
    figure = scatter(points, title, x, y, answers)
    [axes] = figure.axes
    by_number: dict[float, float] = {}
    for place, score in points:
        by_number[place] = max(score, by_number.get(place, score))
    best = accumulate((by_number[place] for place in sorted(by_number)), max)
    axes.step(sorted(by_number), list(best), where="post", color=SERIES[1], linewidth=1.5, label="best so far")
    axes.legend(loc="lower right", frameon=False, fontsize=SMALL, labelcolor=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def evolution(folder: Path) -> Section | None:
    """The section of the page; None for a run without an evolution."""
    answer = read_answer(folder)
    scored, answers = [], []
    for row in read_rows(folder / "evolution.csv"):
        generation, score = number(row.get("generation")), number(row.get("score"))
        if generation is not None and score is not None:
            scored.append((generation, score))
            answers += [(generation, score)] if is_answer(row, answer) else []
    if not scored:
        return None
    best = max(score for _, score in scored)
    said = f"{len(scored)} candidates in {len({g for g, _ in scored})} generations, the best score {best:.4g}"
    drawn = best_so_far(scored, "Scores by generation", "generation", "score with shared weights", answers[:1])
    return Section("Evolution", [Pair([Picture(to_svg(drawn, "generations", said), f"{said}. {_legend(answers)}")])])


def _legend(answers: Points) -> str:
    return "Each dot is one candidate; the diamond is the answer." if answers else "Each dot is one candidate."
