"""A cell as the papers draw it: inputs left, numbered nodes, operations on the edges, the output right."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import networkx as nx
from matplotlib.figure import Figure
from matplotlib.path import Path

from lightning_nas.report.drawing import LETTER, LINE, arrow, canvas, draw_box
from lightning_nas.report.layout import Place, layered
from lightning_nas.report.theme import GRID, INK, MUTED, SERIES, SMALL, plain

NO_CONNECTION = ("none", "zero")
_BLUE, _ORANGE, _TEAL, _ = SERIES


def cell_drawing(cell: nx.MultiDiGraph[Any]) -> Figure:
    """States as boxes, operations as words on the lines between them; lines without a connection are dashed.

    Args:
        cell: one of :meth:`~lightning_nas.spaces.base.SearchSpace.cell_graphs`, the output last.

    Raises:
        networkx.NetworkXUnfeasible: the graph has a cycle.
    """
    states = {node: _lines(cell, node) for node in cell}
    words = {("on", *edge): plain(said, 24) for *edge, said in cell.edges(keys=True, data="label") if said}
    boxes = {node: _box([line for line, _ in lines], 0.2) for node, lines in states.items()}
    boxes |= {edge: _box([said], 0.06) for edge, said in words.items()}
    graph, pieces = _opened(cell, words)
    size, places, routes = layered(graph, boxes, late=words)
    figure, axes = canvas(size)
    for (target, dashed), route in zip(pieces, routes, strict=True):
        arrow(axes, _smooth(route), head=target in states, dashed=dashed)
    for edge, said in words.items():
        quiet = said in NO_CONNECTION
        axes.text(*places[edge], said, ha="center", va="center", fontsize=SMALL, color=MUTED if quiet else INK)
    for node, lines in states.items():
        draw_box(axes, places[node], boxes[node], lines, edge=_colour(cell, node))
    return figure


def cell_words(cell: nx.MultiDiGraph[Any]) -> str:
    """The drawing in words, for readers who cannot see it.

    >>> graph = nx.MultiDiGraph([("c_{k-1}", "0", {"label": "skip"}), ("0", "c_{k}", {"label": ""})])
    >>> cell_words(graph)
    '0 = skip(c_{k-1}); c_{k} = 0'
    """
    said = []
    for node in cell:
        parts = [f"{label}({source})" if label else str(source) for source, _, label in cell.in_edges(node, "label")]
        said += [f"{node} = {' + '.join(parts)}"] if parts else []
    return "; ".join(said)


def _lines(cell: nx.MultiDiGraph[Any], node: Any) -> list[tuple[str, bool]]:
    first, *rest = (plain(line, 24) for line in str(cell.nodes[node].get("label", node)).split("\n"))
    return [(first, True), *((line, False) for line in rest)]


def _box(lines: Sequence[str], around: float) -> Place:
    return max(map(len, lines)) * LETTER + around, len(lines) * LINE + around / 2


def _colour(cell: nx.MultiDiGraph[Any], node: Any) -> str:
    """The colour of a box: one each for inputs, nodes and the output."""
    if cell.in_degree(node) == 0:
        return _TEAL if cell.out_degree(node) else GRID
    return _ORANGE if node == list(cell)[-1] else _BLUE


def _opened(cell: nx.MultiDiGraph[Any], words: dict[Any, str]) -> tuple[nx.DiGraph[Any], list[tuple[Any, bool]]]:
    """The graph with every word as a node on its edge, and for each piece its target and whether it is dashed."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(cell)
    for source, target, key in cell.edges(keys=True):
        word = ("on", source, target, key)
        nx.add_path(graph, [source, word, target] if word in words else [source, target])
    pieces = [(target, {words.get(source), words.get(target)} & set(NO_CONNECTION)) for source, target in graph.edges()]
    return graph, [(target, bool(dashed)) for target, dashed in pieces]


def _smooth(route: Sequence[Place]) -> Path:
    """A curve through the route: level where the route is level, and level at both ends of every slope."""
    points, codes = [route[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(route):
        if y0 == y1:
            points, codes = [*points, (x1, y1)], [*codes, Path.LINETO]
        else:
            middle = (x0 + x1) / 2
            points += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [Path.CURVE4] * 3
    return Path(points, codes)
