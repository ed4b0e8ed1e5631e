"""A network as boxes and arrows: chains wrap like text, other graphs stand in layers from left to right."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import networkx as nx
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from lightning_nas.report.theme import GRID, INK, MUTED, RAISED, SMALL, WIDTH, new_figure, plain

Place = tuple[float, float]
_GAP, _LINE, _LETTER = 0.32, 0.17, 0.074  # inches: between boxes, a line of text, a letter


def network_drawing(graph: nx.DiGraph[Any]) -> Figure:
    """The network's nodes as boxes with their ``label``, in the order in which they run.

    Args:
        graph: acyclic; a node's label may have several lines, the first of which stands out.

    Raises:
        networkx.NetworkXUnfeasible: the graph has a cycle.
    """
    chain = _is_chain(graph)
    labels = {node: _lines(node, data.get("label", node), named=chain) for node, data in graph.nodes(data=True)}
    letters = max((len(line) for lines in labels.values() for line, _ in lines), default=1)
    box = (letters * _LETTER + 0.2, max((len(lines) for lines in labels.values()), default=1) * _LINE + 0.16)
    if chain:
        size, places, routes = _wrapped(list(nx.topological_sort(graph)), box)
    else:
        size, places, routes = _layered(graph, box)
    figure = new_figure(*size)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))  # inches from the top left
    axes.axis("off")
    for route in routes:
        _arrow(axes, route)
    for node, place in places.items():
        _box(axes, place, box, labels[node])
    return figure


def _lines(node: object, label: object, *, named: bool) -> list[tuple[str, bool]]:
    """The lines of a box, each with whether it stands out: the label's first line does, the node's name does not."""
    first, *rest = (plain(line, 24) for line in str(label).split("\n"))
    name = [(plain(str(node), 24), False)] if named and node != label else []
    return [*name, (first, True), *((line, False) for line in rest)]


def _is_chain(graph: nx.DiGraph[Any]) -> bool:
    degrees = [*dict(graph.in_degree).values(), *dict(graph.out_degree).values()]
    return max(degrees, default=0) <= 1 and (len(graph) == 0 or nx.is_weakly_connected(graph))


def _wrapped(nodes: Sequence[Hashable], box: Place) -> tuple[Place, dict[Hashable, Place], list[list[Place]]]:
    """Rows like text; at a row's end the arrow runs back between the rows."""
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


def _layered(graph: nx.DiGraph[Any], box: Place) -> tuple[Place, dict[Hashable, Place], list[list[Place]]]:
    """Columns by depth; an edge that passes columns keeps a free place in each, so that it crosses no box."""
    layers: list[list[Any]] = [list(layer) for layer in nx.topological_generations(graph)]
    depth = {node: i for i, layer in enumerate(layers) for node in layer}
    chains = []
    for source, target in graph.edges:
        between = [("pass", source, target, i) for i in range(depth[source] + 1, depth[target])]
        for i, stop in enumerate(between, depth[source] + 1):
            layers[i].append(stop)
        chains.append([source, *between, target])
    _untangle(layers, chains)
    (width, height), column_gap, row_gap = box, 0.55, 0.2
    tall = max(map(len, layers)) * (height + row_gap)
    stops = {
        node: (0.05 + width / 2 + i * (width + column_gap), 0.05 + tall * (j + 0.5) / len(layer))
        for i, layer in enumerate(layers)
        for j, node in enumerate(layer)
    }
    size = (len(layers) * (width + column_gap) - column_gap + 0.1, tall + 0.1)
    routes = [_through([stops[stop] for stop in chain], width / 2) for chain in chains]
    return size, {node: stops[node] for node in graph}, routes


def _untangle(layers: list[list[Any]], chains: Sequence[Sequence[Any]]) -> None:
    """Order each layer by the mean height of its neighbours, a few times over: fewer crossings."""
    near: dict[Any, list[Any]] = {node: [] for layer in layers for node in layer}
    for chain in chains:
        for a, b in itertools.pairwise(chain):
            near[a].append(b)
            near[b].append(a)
    height = {node: (j + 0.5) / len(layer) for layer in layers for j, node in enumerate(layer)}
    for _ in range(6):
        for layer in layers:
            wish = {n: sum(height[m] for m in near[n]) / len(near[n]) if near[n] else height[n] for n in layer}
            layer.sort(key=wish.__getitem__)
            height.update({node: (j + 0.5) / len(layer) for j, node in enumerate(layer)})


def _through(stops: Sequence[Place], half: float) -> list[Place]:
    """The route from the right side of the first box, level past each stop, to the left side of the last."""
    (x0, y0), *between, (x1, y1) = stops
    return [(x0 + half, y0), *((x + side, y) for x, y in between for side in (-half, half)), (x1 - half, y1)]


def _arrow(axes: Any, route: list[Place]) -> None:
    path = Path(route)
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=8, color=MUTED, linewidth=1, zorder=1))


def _box(axes: Any, place: Place, box: Place, lines: Sequence[tuple[str, bool]]) -> None:
    (x, y), (width, height) = place, box
    corner = (x - width / 2 + 0.06, y - height / 2 + 0.06)
    axes.add_patch(
        FancyBboxPatch(
            corner, width - 0.12, height - 0.12, boxstyle="round,pad=0.06", facecolor=RAISED, edgecolor=GRID, zorder=2
        )
    )
    quiet, loud = {"color": MUTED, "fontsize": SMALL - 1}, {"color": INK, "fontsize": SMALL, "weight": "bold"}
    for i, (line, stands_out) in enumerate(lines):
        style = loud if stands_out else quiet
        axes.text(x, y + (i - (len(lines) - 1) / 2) * _LINE, line, ha="center", va="center", zorder=3, **style)
