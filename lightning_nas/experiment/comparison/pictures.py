"""The pictures of a comparison: pure functions from figures to matplotlib figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure

from lightning_nas.experiment.comparison.findings import Finding, Ranks
from lightning_nas.experiment.comparison.runs import Curve
from lightning_nas.functional.comparing import held_at
from lightning_nas.report.svg import hover
from lightning_nas.report.theme import ACCENT, GRID, INK, MUTED, SERIES, SMALL, WIDTH, dress, new_figure, plain

_MOMENTS = 120  # of a curve
_DASHES = ("-", "--", ":", "-.")


def intervals(findings: Sequence[Finding], x: str) -> Figure:
    """The interquartile mean of each method with its interval, best above."""
    shown = sorted((f for f in findings if f.iqm is not None), key=lambda f: f.iqm or 0.0)
    figure = new_figure(WIDTH * 0.75, 0.6 + 0.26 * len(shown))
    axes = figure.add_subplot()
    places = list(range(len(shown)))
    means = [f.iqm or 0.0 for f in shown]
    ends = [f.iqm_interval or (math.nan, math.nan) for f in shown]
    colors = [ACCENT if f.kind == "search" else MUTED for f in shown]
    axes.hlines(places, [low for low, _ in ends], [high for _, high in ends], color=colors, linewidth=2)
    dots = axes.scatter(means, places, s=26, color=colors, zorder=3)
    hover(
        dots,
        [
            f"{f.name}: {m:.4f}, 95 % {low:.4f} to {high:.4f}"
            for f, m, (low, high) in zip(shown, means, ends, strict=True)
        ],
    )
    dress(axes, x=x, grid="x")
    axes.set_yticks(places, [plain(f.name, 24) for f in shown])
    return figure


def critical_differences(ranks: Ranks) -> Figure:
    """Demsar's diagram: mean ranks on a line, the best at the left; bars join methods that are not told apart."""
    names, values = list(ranks.ranks), list(ranks.ranks.values())
    half = math.ceil(len(names) / 2)
    figure = new_figure(WIDTH * 0.8, 1.1 + 0.26 * half + 0.12 * len(ranks.alike))
    axes = figure.add_subplot()
    axes.hlines(0, 1, len(names), color=INK, linewidth=1)
    for tick in range(1, len(names) + 1):
        axes.vlines(tick, 0, 0.25, color=INK, linewidth=0.8)
        axes.text(tick, 0.35, str(tick), ha="center", va="bottom", fontsize=SMALL, color=MUTED)
    first = 0.5 + 0.35 * len(ranks.alike)
    for place, (name, rank) in enumerate(zip(names, values, strict=True)):
        left = place < half
        depth = -first - 0.8 * (place if left else len(names) - 1 - place) - 0.4
        end = 1 - 0.2 if left else len(names) + 0.2
        axes.plot([rank, rank, end], [0, depth, depth], color=GRID if name not in names[:1] else ACCENT, linewidth=1)
        text = f"{plain(name, 24)} {rank:.2f}"
        axes.text(end, depth, text, ha="right" if left else "left", va="center", fontsize=SMALL, color=INK)
    for level, (low, high) in enumerate(ranks.alike):
        depth = -0.35 * (level + 1)
        axes.hlines(depth, values[low] - 0.03, values[high] + 0.03, color=SERIES[1], linewidth=3)
    axes.hlines(1.5, 1, 1 + ranks.width, color=MUTED, linewidth=2)
    axes.text(1, 1.65, f"critical difference {ranks.width:.2f}", ha="left", va="bottom", fontsize=SMALL, color=MUTED)
    spread = 0.35 * len(names)
    axes.set_xlim(1 - spread, len(names) + spread)
    axes.set_axis_off()
    return figure


def anytime(curves: Sequence[Curve], points: Mapping[str, tuple[float, float]], y: str, best: float | None) -> Figure:
    """The mean over seeds of the best so far, by trials and by seconds of training, of one task.

    Args:
        curves: of the searches by trials.
        points: seconds and mean figure of searches without trials, by method.
        y: what the values are.
        best: best known value, drawn as a line.
    """
    figure = new_figure(WIDTH, 3.2)
    names = list(dict.fromkeys(curve.method for curve in curves))
    for panel, x in enumerate(("trials", "seconds of training")):
        axes = figure.add_subplot(1, 2, panel + 1)
        for place, name in enumerate(names):
            own = [curve for curve in curves if curve.method == name]
            moments, means = mean_curve(own, by_seconds=panel == 1)
            color, dashes = SERIES[place % len(SERIES)], _DASHES[place // len(SERIES) % len(_DASHES)]
            label = plain(name, 24)
            axes.step(moments, means, where="post", linewidth=1.4, label=label, color=color, linestyle=dashes)
        if panel == 1:
            for name, (seconds, figure_) in points.items():
                axes.scatter([seconds], [figure_], s=22, color=MUTED, zorder=4)
                axes.annotate(plain(name, 24), (seconds, figure_), fontsize=SMALL - 1, color=MUTED)
        if best is not None:
            axes.axhline(best, color=MUTED, linewidth=0.8, linestyle=":")
        dress(axes, x=x, y=y if panel == 0 else "")
        if panel == 0 and names:
            axes.legend(loc="lower right", frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure


def mean_curve(curves: Sequence[Curve], *, by_seconds: bool) -> tuple[list[float], list[float]]:
    """Moments, and the mean of what the curves hold then; from when all have begun to when the last ends."""
    times = [
        torch.tensor(curve.seconds if by_seconds else range(1, len(curve.values) + 1), dtype=torch.float64)
        for curve in curves
    ]
    begin, end = max(float(each[0]) for each in times), max(float(each[-1]) for each in times)
    moments = torch.linspace(begin, end, _MOMENTS, dtype=torch.float64)
    moments = torch.tensor(sorted(set((moments if by_seconds else moments.round()).tolist())), dtype=torch.float64)
    values = [torch.tensor(curve.values, dtype=torch.float64) for curve in curves]
    held = torch.stack([held_at(t, v, moments) for t, v in zip(times, values, strict=True)])
    return moments.tolist(), held.mean(0).tolist()
