"""The scores of a run's candidates against their costs, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lightning_nas.report.candidates import Candidate, cost_axis, read_candidates
from lightning_nas.report.figures import dots, mark_answer
from lightning_nas.report.parts import Figure as Picture
from lightning_nas.report.parts import Pair, Section
from lightning_nas.report.quantities import provenance
from lightning_nas.report.record import read_object
from lightning_nas.report.svg import hover, to_svg
from lightning_nas.report.theme import SERIES, WIDTH, dress, new_figure, plain

Points = Sequence[tuple[float, float]]


def pareto(points: Points) -> list[tuple[float, float]]:
    """The (cost, score) points that no point of equal or lower cost reaches or exceeds, by rising cost.

    >>> pareto([(2, 0.5), (1, 0.4), (3, 0.5), (2, 0.3)])
    [(1, 0.4), (2, 0.5)]
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def front_figure(candidates: Sequence[Candidate], x: str, y: str) -> Figure:
    """(cost, score) of every candidate that has a cost, the front as a line, the answer as a diamond."""
    figure = new_figure(WIDTH * 0.6, 3.2)
    axes = figure.add_subplot()
    priced = [(candidate, (candidate.cost, candidate.score)) for candidate in candidates if candidate.cost is not None]
    tips = [plain(f"{c.key}: score {c.score:.4g}, cost {c.cost:.6g}, {c.choices}", 160) for c, _ in priced]
    points = [point for _, point in priced]
    dots(axes, points, tips)
    front = pareto(points)
    costs, scores = zip(*front, strict=True)
    axes.step(costs, scores, where="post", color=SERIES[1], linewidth=1.5)
    on_line = axes.scatter(costs, scores, s=16, color=SERIES[1], linewidths=0, zorder=4)
    hover(on_line, [tips[points.index(point)] for point in front])
    mark_answer(axes, [point for candidate, point in priced if candidate.answer])
    dress(axes, title="Pareto front", x=x, y=y)
    return figure


def score_and_cost(folder: Path) -> Section:
    """The section of the page, without parts where no architecture has both a score and a cost."""
    title = "Score and cost"
    candidates = [candidate for candidate in read_candidates(folder) if candidate.cost is not None]
    if not candidates:
        return Section(title)
    y = "reward" if candidates[0].kind == "trial" else "score with shared weights"
    front = pareto([(candidate.cost or 0.0, candidate.score) for candidate in candidates])
    steps = "; ".join(f"{score:.4g} for {cost:.6g}" for cost, score in front)
    svg = to_svg(front_figure(candidates, cost_axis(folder), y), "pareto", f"Pareto front: {steps}")
    marked = any(candidate.answer for candidate in candidates)
    where = "The diamond is the answer." if marked else "The answer is not among the scored architectures."
    words = f"{len(candidates)} architectures; the line joins those that no cheaper one equals. {where}"
    table = read_object(folder / "latency_table.json")
    words += f" Device: {provenance(table)}." if table.get("unit") == "ms" and table.get("device") else ""
    return Section(title, [Pair([Picture(svg, words)])])
