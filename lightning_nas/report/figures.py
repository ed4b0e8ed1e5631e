"""Pictures of a search: pure functions from numbers to matplotlib figures, without pyplot's global state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lightning_nas.report.choices import Choices
from lightning_nas.report.svg import hover
from lightning_nas.report.theme import ACCENT, GRID, INK, MUTED, SERIES, SMALL, WIDTH, dress, new_figure, plain

if TYPE_CHECKING:
    from torch import Tensor

Points = Sequence[tuple[float, float]]
Matrix: TypeAlias = "np.ndarray[Any, Any] | Tensor"
_MOST_POINTS, _MOST_TIPS, _MOST_CELLS = 300, 30, 600
NAMELESS = Choices()
UNSEEN = (0.0, 0.0, 0.0, 0.0)  # one colour, where "none" would make matplotlib write every shape out
# by opacity and not by lightness, so that 0 is the page's own background in light and dark
PROBABILITY = LinearSegmentedColormap.from_list("probability", [(*(0.14, 0.44, 0.78), a) for a in (0.0, 1.0)])


def curves(metrics: Mapping[str, Points], keys: Sequence[Sequence[str]], x: str = "step") -> Figure:
    """A small panel for each of ``keys``, with a line for each key in it.

    Args:
        metrics: (x, y) points of each key, in order of x; more than 300 are averaged to 300.
        keys: the keys of each panel; keys without points and empty panels are left out.
        x: name of the horizontal axis.
    """
    panels = [[key for key in panel if metrics.get(key)] for panel in keys]
    panels = [panel for panel in panels if panel]
    columns = max(1, min(3, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(WIDTH * max(columns, 2) / 3, 2.3 * rows)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        for key, color in zip(panel, SERIES * len(panel), strict=False):
            _line(axes, metrics[key], color, plain(key))
        dress(axes, title=panel[0] if len(panel) == 1 else "", x=x)
        if len(panel) > 1:  # the legend stands where the title would
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False, fontsize=SMALL,
                labelcolor=INK, handlelength=1.2, borderpad=0, columnspacing=1.0,
            )  # fmt: skip
    return figure


def tau_curve(points: Points, intervals: Sequence[tuple[float, float, float]]) -> Figure:
    """Kendall's tau by epoch, with its interval as a band of (epoch, low, high)."""
    figure = new_figure(WIDTH / 2, 2.9)
    axes = figure.add_subplot()
    axes.axhline(0, color=MUTED, linewidth=0.8)
    if intervals:
        epochs, low, high = zip(*intervals, strict=True)
        axes.vlines(epochs, low, high, color=ACCENT, linewidth=5, alpha=0.25)
        axes.fill_between(epochs, low, high, color=ACCENT, alpha=0.12, linewidth=0)
    _line(axes, points, ACCENT, "")
    dress(axes, title="Kendall's tau and its interval", x="epoch")
    axes.set_ylim(-1.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def rank_scatter(
    scores: Iterable[float], truth: Iterable[float], tau: float | None, keys: Sequence[str] = (), answer: str = ""
) -> Figure:
    """The search's score of each architecture against its score when trained alone; the answer's key is marked."""
    figure = new_figure(WIDTH / 2, 2.9)
    axes = figure.add_subplot()
    points = [(float(score), float(true)) for score, true in zip(scores, truth, strict=True)]
    named = keys or [""] * len(points)
    dots(
        axes, points, [f"{key} score {x:.4g}, truth {y:.4g}".strip() for key, (x, y) in zip(named, points, strict=True)]
    )
    mark_answer(axes, [point for key, point in zip(named, points, strict=True) if answer and key == answer])
    known = tau is not None and math.isfinite(tau)
    title = f"Kendall's tau {tau:.2f}" if known else "Kendall's tau is not defined here"
    dress(axes, title=title, x="score with shared weights", y="truth, trained alone")
    return figure


def probability_heatmap(
    values: Mapping[str, Matrix], options: Mapping[str, Sequence[str]], choices: Choices = NAMELESS
) -> Figure:
    """The probability of each option (columns) at each choice (rows), a panel for each group.

    Args:
        values: (choices, options) of each group, in 0 to 1; NaN where a choice does not have that option.
        options: the names of each group's columns.
        choices: the names of the rows, and the options of the answer, which are framed.
    """
    matrices = {group: np.asarray(matrix.tolist(), dtype=float) for group, matrix in values.items()}
    tallest = max((len(matrix) for matrix in matrices.values()), default=1)
    figure, panels = _panels(len(matrices), tallest, alone=0.75, margin=1.1, row=0.23)
    for axes, (group, matrix) in zip(panels, matrices.items(), strict=True):
        _cells(axes, matrix)
        dress(axes, title=group, grid=None)
        names = [plain(name, 24) for name in options[group]]
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        _rows(axes, choices.named(group, len(matrix)))
        edges = [np.arange(0.5, size - 1) for size in matrix.shape]
        axes.hlines(edges[0], -0.5, matrix.shape[1] - 0.5, color=GRID, linewidth=0.5)
        axes.vlines(edges[1], -0.5, len(matrix) - 0.5, color=GRID, linewidth=0.5)
        for row, best in winners(matrix):
            share = matrix[row, best]
            color = "white" if share > 0.55 else INK
            axes.text(best, row, f"{share:.2f}", ha="center", va="center", fontsize=SMALL - 1.5, color=color)
        _frame(axes, choices.taken.get(group, ()))
        _cell_tips(axes, matrix, choices.named(group, len(matrix)), options[group])
    return figure


def _panels(count: int, tallest: int, *, alone: float, margin: float, row: float) -> tuple[Figure, list[Any]]:
    """A figure with a panel for each group, in rows of three where they are more than four.

    Args:
        count: of the panels.
        tallest: rows of the largest matrix.
        alone: share of the page's width that a single panel has.
        margin: inches of a panel without its matrix.
        row: inches of a row of a matrix.
    """
    across = max(count, 1) if count <= 4 else 3
    down = max(math.ceil(count / across), 1)
    height = down * (margin + row * max(tallest, 4 if down == 1 else 1))
    figure = new_figure(WIDTH * alone if count < 2 else WIDTH, height)
    return figure, [figure.add_subplot(down, across, number + 1) for number in range(count)]


def probability_history(
    epochs: Sequence[int], values: Any, options: Sequence[str], titles: Sequence[str] = ()
) -> Figure:
    """How the probabilities of each choice moved: a small panel for each choice, epochs along, options down.

    Args:
        epochs: (E,).
        values: (E, choices, options), in 0 to 1.
        options: the options' names.
        titles: the choices' names.
    """
    choices, columns = values.shape[1], min(6, values.shape[1])
    rows = math.ceil(choices / columns)
    figure = new_figure(WIDTH, rows * max(0.9, 0.115 * len(options) + 0.25) + 0.45)
    names = [plain(name, 18) for name in options]
    for choice in range(choices):
        axes = figure.add_subplot(rows, columns, choice + 1)
        _cells(axes, values[:, choice].T)
        first, last = choice % columns == 0, choice + columns >= choices
        title = plain(titles[choice], 20) if titles else f"choice {choice + 1}"
        dress(axes, title=title, x="epoch" if last else "", grid=None)
        axes.tick_params(length=0)
        ends = sorted({0, len(epochs) - 1}) if last else []
        axes.set_yticks(range(len(names)) if first else [], names if first else [], fontsize=6)
        axes.set_xticks(ends, [str(epochs[end]) for end in ends], fontsize=SMALL - 1)
        axes.xaxis.label.set_fontsize(SMALL - 1)
        axes.xaxis.labelpad = 0
    return figure


def winner_history(
    groups: Mapping[str, tuple[Sequence[int], Any, Sequence[str]]], choices: Choices = NAMELESS
) -> Figure:
    """The probability of each choice's likeliest option: a panel for each group, epochs along, a row for each choice.

    Args:
        groups: for each, its epochs (E,), probabilities (E, choices, options) in 0 to 1, NaN for all but the likeliest
            option, and the options' names. The last likeliest option is written beside its row.
        choices: the names of the rows.
    """
    tallest = max(values.shape[1] for _, values, _ in groups.values())
    figure, panels = _panels(len(groups), tallest, alone=0.6, margin=0.9, row=0.19)
    for axes, (group, (epochs, values, options)) in zip(panels, groups.items(), strict=True):
        known = np.nan_to_num(values)
        shares, best = known.max(-1), known.argmax(-1)
        _cells(axes, shares.T)
        dress(axes, title=group, x="epoch", grid=None)
        turns, rows = np.nonzero(best[1:] != best[:-1])
        axes.scatter(turns + 1, rows, s=9, color=INK, linewidths=0)
        ends = sorted({0, len(epochs) - 1})
        axes.set_xticks(ends, [str(epochs[end]) for end in ends])
        _rows(axes, choices.named(group, shares.shape[1]))
        named = axes.secondary_yaxis("right")
        labels = [f"{shares[-1, row]:.2f} {plain(options[option], 20)}" for row, option in enumerate(best[-1])]
        named.set_yticks(range(len(labels)), labels)
        named.tick_params(length=0, labelsize=SMALL - 1.5, labelcolor=INK)
        named.spines["right"].set_visible(False)
    return figure


def latency_bars(rows: Sequence[tuple[str, str, float]], unit: str = "ms") -> Figure:
    """The cost of each layer, top to bottom, what every architecture of the space runs in grey.

    Args:
        rows: (layer, option, cost in the unit); the layer is ``fixed`` for what every architecture runs.
        unit: the unit of the cost.
    """
    figure = new_figure(WIDTH, 0.75 + 0.215 * len(rows))
    axes = figure.add_subplot()
    places = range(len(rows))
    colors = [MUTED if "fixed" in (layer, option) else ACCENT for layer, option, _ in rows]
    names = [layer_label(layer, option) for layer, option, _ in rows]
    bars = axes.barh(places, [cost for *_, cost in rows], color=colors, height=0.68)
    for bar, name, (*_, cost) in zip(bars, names, rows, strict=True):
        hover(bar, [plain(f"{name}: {cost:.6g} {unit}")])
    axes.bar_label(bars, [f"{cost:,.0f}" if cost >= 1000 else f"{cost:.3g}" for *_, cost in rows],
                   padding=3, fontsize=SMALL - 1, color=MUTED)  # fmt: skip
    axes.set_yticks(places, [plain(name) for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    dress(axes, x="predicted latency (ms)" if unit == "ms" else plain(str(unit)), grid="x")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    return figure


def layer_label(layer: str, option: str) -> str:
    """The name of a layer and its option; the name alone for what every architecture runs.

    >>> layer_label("layer_01", "k3_e6"), layer_label("fixed", "stem")
    ('layer_01 k3_e6', 'stem')
    """
    return " ".join(word for word in (layer, option) if word and word != "fixed")


def dots(axes: Any, points: Points, tips: Sequence[str]) -> None:
    """A dot for each point, with a text to hover over."""
    drawn = axes.scatter(*zip(*points, strict=True), s=20, color=ACCENT, alpha=0.5, linewidths=0)
    hover(drawn, tips)


def mark_answer(axes: Any, points: Points) -> None:
    """A diamond on the point of the answer, and its entry in the legend."""
    if points:
        drawn = axes.scatter(
            *zip(*points, strict=True), s=64, marker="D", facecolors="none", edgecolors=SERIES[1], linewidths=1.6,
            label="answer", zorder=5,
        )  # fmt: skip
        hover(drawn, [f"answer: {x:.4g}, {y:.4g}" for x, y in points])
        axes.legend(loc="best", frameon=False, fontsize=SMALL, labelcolor=MUTED)


def _line(axes: Any, points: Points, color: str, label: str) -> None:
    xs, ys = (np.asarray(column, dtype=float) for column in zip(*points, strict=True))
    if len(xs) > _MOST_POINTS:
        xs, ys = (np.array([part.mean() for part in np.array_split(column, _MOST_POINTS)]) for column in (xs, ys))
    marker = "o" if len(xs) <= 40 else ""
    axes.plot(xs, ys, color=color, label=label, linewidth=1.5, marker=marker, markersize=3)
    few = slice(None, None, max(1, math.ceil(len(xs) / _MOST_TIPS)))
    drawn = axes.scatter(xs[few], ys[few], s=40, color=UNSEEN, linewidths=0)
    hover(drawn, [f"{label} {y:.4g} at {x:.6g}".strip() for x, y in zip(xs[few], ys[few], strict=True)])


def _cells(axes: Any, matrix: Any) -> None:
    """One flat cell for each number; an image of just the cells, so that a page of a thousand stays small."""
    axes.imshow(matrix, cmap=PROBABILITY, vmin=0, vmax=1, aspect="auto", interpolation="none")


def _rows(axes: Any, names: Sequence[str]) -> None:
    """The names of the rows, or of every second, third, ... where there are more than 30."""
    places = range(0, len(names), math.ceil(len(names) / 30) or 1)
    axes.set_yticks(places, [plain(names[place], 24) for place in places])
    axes.tick_params(axis="y", length=0)


def _frame(axes: Any, taken: Sequence[Sequence[int]]) -> None:
    """A frame around the options of the answer."""
    for row, options in enumerate(taken):
        for option in options:
            axes.add_patch(
                Rectangle((option - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=SERIES[1], linewidth=1.4)
            )


def _cell_tips(axes: Any, matrix: Any, names: Sequence[str], options: Sequence[str]) -> None:
    places = [(column, row) for row, column in zip(*np.nonzero(np.isfinite(matrix)), strict=True)]
    if not 0 < len(places) <= _MOST_CELLS:
        return
    drawn = axes.scatter(*zip(*places, strict=True), s=120, marker="s", color=UNSEEN, linewidths=0)
    hover(drawn, [plain(f"{names[row]} {options[column]}: {matrix[row, column]:.3f}") for column, row in places])


def winners(matrix: Any) -> list[tuple[int, int]]:
    """(choice, option) of the largest probability of each row that has one."""
    return [(row, int(np.nanargmax(line))) for row, line in enumerate(matrix) if np.isfinite(line).any()]
