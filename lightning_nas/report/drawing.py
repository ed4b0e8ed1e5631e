"""A network as boxes and arrows: chains wrap like text, other graphs stand in layers from left to right."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import networkx as nx
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from lightning_nas.report.layout import Place, layered
from lightning_nas.report.theme import GRID, INK, MUTED, RAISED, SMALL, WIDTH, new_figure, plain

_GAP, LINE, LETTER = 0.32, 0.17, 0.074  # inches: between boxes, a line of text, a letter


def network_drawing(graph: nx.DiGraph[Any]) -> Figure:
    """The network's nodes as boxes with their ``label``, in the order in which they run.

    Args:
        graph: acyclic; the label of a node may have several lines, the first of which is bold.

    Raises:
        networkx.NetworkXUnfeasible: the graph has a cycle.
    """
    chain = _is_chain(graph)
    labels = {node: _lines(node, data.get("label", node), named=chain) for node, data in graph.nodes(data=True)}
    letters = max((len(line) for lines in labels.values() for line, _ in lines), default=1)
    box = (letters * LETTER + 0.2, max((len(lines) for lines in labels.values()), default=1) * LINE + 0.16)
    if chain:
        size, places, routes = _wrapped(list(nx.topological_sort(graph)), box)
    else:
        size, places, routes = layered(graph, dict.fromkeys(graph, box))
    figure, axes = canvas(size)
    for route in routes:
        arrow(axes, Path(route))
    for node, place in places.items():
        draw_box(axes, place, box, labels[node])
    return figure


def canvas(size: Place) -> tuple[Figure, Any]:
    """A figure and its axes, with coordinates in inches from the top left."""
    figure = new_figure(*size)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.axis("off")
    return figure, axes


def _lines(node: object, label: object, *, named: bool) -> list[tuple[str, bool]]:
    """The lines of a box, each with whether it is bold: the first line of the label is, the name of the node is not."""
    first, *rest = (plain(line, 24) for line in str(label).split("\n"))
    name = [(plain(str(node), 24), False)] if named and node != label else []
    return [*name, (first, True), *((line, False) for line in rest)]


def _is_chain(graph: nx.DiGraph[Any]) -> bool:
    degrees = [*dict(graph.in_degree).values(), *dict(graph.out_degree).values()]
    return max(degrees, default=0) <= 1 and (len(graph) == 0 or nx.is_weakly_connected(graph))


def _wrapped(nodes: Sequence[Hashable], box: Place) -> tuple[Place, dict[Hashable, Place], list[list[Place]]]:
    """Rows like lines of text; at the end of a row the arrow runs back between the rows."""
    (width, height), row_gap = box, 0.4
    columns = max(1, min(len(nodes), int((WIDTH - 0.1 + _GAP) / (width + _GAP))))
    gap = _GAP if len(nodes) <= columns or columns == 1 else (WIDTH - 0.1 - columns * width) / (columns - 1)
    places = {
        node: (
            0.05 + width / 2 + (i % columns) * (width + gap),
            0.05 + height / 2 + (i // columns) * (height + row_gap),
        )
        for i, node in enumerate(nodes)
    }
    routes = []
    for (x0, y0), (x1, y1) in itertools.pairwise(places.values()):
        if y0 == y1:
            routes.append([(x0 + width / 2, y0), (x1 - width / 2, y1)])
        else:
            middle = (y0 + y1) / 2
            routes.append([(x0, y0 + height / 2), (x0, middle), (x1, middle), (x1, y1 - height / 2)])
    rows = -(-len(nodes) // columns)
    return (columns * (width + gap) - gap + 0.1, rows * (height + row_gap) - row_gap + 0.1), places, routes


def arrow(axes: Any, path: Path, *, head: bool = True, dashed: bool = False) -> None:
    """A line along ``path``, with an arrow's head at its end."""
    style = "-|>" if head else "-"
    line = FancyArrowPatch(path=path, arrowstyle=style, mutation_scale=8, color=MUTED, linewidth=1, zorder=1)
    if dashed:
        line.set_linestyle((0, (3, 3)))
    axes.add_patch(line)


def draw_box(axes: Any, place: Place, box: Place, lines: Sequence[tuple[str, bool]], edge: str = GRID) -> None:
    """A rounded box with centred lines of text."""
    (x, y), (width, height) = place, box
    corner = (x - width / 2 + 0.06, y - height / 2 + 0.06)
    axes.add_patch(
        FancyBboxPatch(
            corner, width - 0.12, height - 0.12, boxstyle="round,pad=0.06", facecolor=RAISED, edgecolor=edge, zorder=2
        )
    )
    quiet, loud = {"color": MUTED, "fontsize": SMALL - 1}, {"color": INK, "fontsize": SMALL, "weight": "bold"}
    for i, (line, stands_out) in enumerate(lines):
        style = loud if stands_out else quiet
        axes.text(x, y + (i - (len(lines) - 1) / 2) * LINE, line, ha="center", va="center", zorder=3, **style)
