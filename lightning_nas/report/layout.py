"""Layout of an acyclic graph: columns by depth from left to right, lines that cross no box."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import networkx as nx

from lightning_nas.report.theme import WIDTH

Place = tuple[float, float]
_MARGIN, _ROW, _PASS = 0.05, 0.12, 0.1  # inches: margin, gap between boxes of a column, height of a passing line


class Layout(NamedTuple):
    """Size, centres of the nodes and routes of the edges, in inches from the top left."""

    size: Place
    places: dict[Any, Place]
    routes: list[list[Place]]


def layered(graph: nx.DiGraph[Any], boxes: Mapping[Any, Place], late: Collection[Hashable] = ()) -> Layout:
    """Place the nodes in columns by depth; an edge keeps a free place in every column it passes, so it crosses no box.

    Args:
        graph: acyclic.
        boxes: (width, height) of every node.
        late: nodes placed one column before their first successor.

    Returns:
        The centre of every node, and for each edge a route between the sides of two boxes, level in passed columns.

    Raises:
        networkx.NetworkXUnfeasible: the graph has a cycle.
    """
    layers, chains, near = _columns(graph, late)
    _untangle(layers, near)
    heights = {stop: boxes[stop][1] if stop in boxes else _PASS for stop in near}
    level = _levels(layers, near, heights)
    widths = [max(boxes[stop][0] if stop in boxes else _PASS for stop in layer) for layer in layers]
    gap = min(0.55, max(0.28, (WIDTH - 2 * _MARGIN - sum(widths)) / max(1, len(layers) - 1)))
    lefts = [_MARGIN + left + i * gap for i, left in enumerate(itertools.accumulate(widths, initial=0.0))]
    column = {stop: i for i, layer in enumerate(layers) for stop in layer}
    top = min(level[stop] - heights[stop] / 2 for stop in level) - _MARGIN
    places = {stop: (lefts[i] + widths[i] / 2, level[stop] - top) for stop, i in column.items()}
    bottom = max(places[stop][1] + heights[stop] / 2 for stop in level) + _MARGIN

    def route(chain: Sequence[Any]) -> Iterator[Place]:
        for a, b in itertools.pairwise(chain):
            half_a, half_b = (boxes[stop][0] / 2 if stop in boxes else 0.0 for stop in (a, b))
            (x_a, y_a), (x_b, y_b) = places[a], places[b]
            yield from ((x_a + half_a, y_a), (lefts[column[a]] + widths[column[a]], y_a))
            yield from ((lefts[column[b]], y_b), (x_b - half_b, y_b))

    size = (lefts[-1] - gap + _MARGIN, bottom)
    routes = [[point for point, _ in itertools.groupby(route(chain))] for chain in chains]
    return Layout(size, {node: places[node] for node in graph}, routes)


def _columns(
    graph: nx.DiGraph[Any], late: Collection[Hashable]
) -> tuple[list[list[Any]], list[list[Any]], dict[Any, list[Any]]]:
    """The content of each column with the free places of passing edges, the stops of every edge, the neighbours."""
    generations = list(nx.topological_generations(graph))
    depth = {node: i for i, layer in enumerate(generations) for node in layer}
    depth |= {node: min(depth[after] for after in graph.successors(node)) - 1 for node in late}
    layers: list[list[Any]] = [[] for _ in generations]
    for node in graph:
        layers[depth[node]].append(node)
    chains = []
    for number, (source, target) in enumerate(graph.edges()):
        between = [("pass", number, i) for i in range(depth[source] + 1, depth[target])]
        for i, stop in enumerate(between, depth[source] + 1):
            layers[i].append(stop)
        chains.append([source, *between, target])
    near: dict[Any, list[Any]] = {stop: [] for layer in layers for stop in layer}
    for a, b in itertools.chain.from_iterable(map(itertools.pairwise, chains)):
        near[a].append(b)
        near[b].append(a)
    return layers, chains, near


def _untangle(layers: list[list[Any]], near: Mapping[Any, Sequence[Any]]) -> None:
    """Order each layer by the mean height of its neighbours, repeatedly; keep the order with the fewest crossings."""
    column = {stop: i for i, layer in enumerate(layers) for stop in layer}
    sides = [{s: [n for n in near[s] if column[n] == column[s] + step] for s in near} for step in (-1, 1)]
    best, fewest = [list(layer) for layer in layers], _crossings(layers, sides[1])
    first = best[0][0] if best else None
    for turn in range(12):
        seen = near if turn < 6 else sides[turn % 2]
        for layer in layers if turn % 2 == 0 else reversed(layers):
            height = {stop: (j + 0.5) / len(other) for other in layers for j, stop in enumerate(other)}
            wish = {s: sum(height[n] for n in seen[s]) / len(seen[s]) if seen[s] else height[s] for s in layer}
            layer.sort(key=wish.__getitem__)
        if (crossings := _crossings(layers, sides[1])) < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    # the first input is on top, as in the papers
    upside_down = bool(best) and best[0][-1] == first
    for layer, order in zip(layers, best, strict=True):
        layer[:] = reversed(order) if upside_down else order


def _crossings(layers: Sequence[Sequence[Any]], after: Mapping[Any, Sequence[Any]]) -> int:
    """The number of crossing pairs of lines between neighbouring columns."""
    place = {stop: j for layer in layers for j, stop in enumerate(layer)}
    count = 0
    for layer in layers:
        lines = [(place[stop], place[other]) for stop in layer for other in after[stop]]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(lines, 2))
    return count


def _levels(
    layers: Sequence[Sequence[Any]], near: Mapping[Any, Sequence[Any]], heights: Mapping[Any, float]
) -> dict[Any, float]:
    """The level of each stop: as near to the mean of its neighbours as the rest of its column allows."""
    level = {}
    for layer in layers:
        offsets = _offsets([heights[stop] for stop in layer])
        level.update({s: offset - offsets[-1] / 2 for s, offset in zip(layer, offsets, strict=True)})
    for _ in range(30):
        for layer in (*layers, *reversed(layers)):
            wishes = [_pulled(stop, near[stop], level) for stop in layer]
            level.update(zip(layer, spread(wishes, [heights[s] for s in layer]), strict=True))
    return level


def _pulled(stop: Any, neighbours: Sequence[Any], level: Mapping[Any, float]) -> float:
    """The weighted mean level of the neighbours; passing places weigh more for each other, which straightens lines."""
    weights = [8 if _passes(stop) and _passes(other) else 1 for other in neighbours]
    pulls = (weight * level[other] for weight, other in zip(weights, neighbours, strict=True))
    return sum(pulls) / sum(weights) if weights else level[stop]


def _passes(stop: Any) -> bool:
    return isinstance(stop, tuple) and stop[0] == "pass"


def spread(wishes: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The levels nearest to the wishes in the sum of squares, in the given order and without overlap.

    >>> spread([1.0, 1.0], [0.5, 0.5])
    [0.69, 1.31]
    """
    offsets = _offsets(heights)
    blocks: list[tuple[float, int]] = []  # (mean, members): pool neighbours in the wrong order
    for wish, offset in zip(wishes, offsets, strict=True):
        mean, members = wish - offset, 1
        while blocks and blocks[-1][0] >= mean:
            other, others = blocks.pop()
            mean, members = (mean * members + other * others) / (members + others), members + others
        blocks.append((mean, members))
    shared = [mean for mean, members in blocks for _ in range(members)]
    return [mean + offset for mean, offset in zip(shared, offsets, strict=True)]


def _offsets(heights: Sequence[float]) -> list[float]:
    """The distance of each from the first when all are packed as tightly as allowed."""
    steps = [(a + b) / 2 + _ROW for a, b in itertools.pairwise(heights)]
    return list(itertools.accumulate(steps, initial=0.0))
