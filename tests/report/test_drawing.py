"""The drawing is checked as a reader sees it: by where boxes and arrows end up."""

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from synthetic_run import chain

from lightning_nas.report.drawing import network_drawing


def boxes(figure: Figure) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of each node in inches, in the graph's order."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    ends = [patch.get_path().get_extents() for patch in found]
    return [(end.x0, end.y0, end.x1, end.y1) for end in ends]


def routes(figure: Figure) -> list[Any]:
    return [patch._path_original.vertices for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def inside(figure: Figure) -> bool:
    width, height = figure.get_size_inches()
    return all(l >= 0 and t >= 0 and r <= width and b <= height for l, t, r, b in boxes(figure))  # noqa: E741


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def darts_cell() -> "nx.DiGraph[Any]":
    """DARTS' published second-order cell for CIFAR-10: two inputs, eight operations, four sums."""
    graph: nx.DiGraph[Any] = nx.DiGraph()
    chosen = [
        *(("b", 0, "sep 3"), ("a", 0, "sep 3"), ("a", 1, "sep 3"), ("b", 1, "sep 3")),
        *(("b", 2, "skip"), (0, 2, "sep 3"), (0, 3, "skip"), ("a", 3, "dil 3")),
    ]
    for i, (source, target, label) in enumerate(chosen):
        graph.add_node(f"op{i}", label=label)
        nx.add_path(graph, [source, f"op{i}", target])
    graph.add_edges_from((node, "out") for node in range(4))
    return graph


@pytest.mark.parametrize("length", [1, 5, 25, 30])
def test_a_chain_reads_like_text_and_nothing_overlaps(length: int) -> None:
    graph: nx.DiGraph[int] = nx.DiGraph()
    for node in reversed(range(length)):  # the order comes from the edges, not from how nodes were added
        graph.add_node(node, label=f"k5_e6_g2\n{node}x112x112")
    nx.add_path(graph, range(length))
    figure = network_drawing(graph)
    shapes = [text for text in figure.axes[0].texts if "x112" in text.get_text()]
    shapes.sort(key=lambda text: (round(text.get_position()[1], 3), text.get_position()[0]))
    assert [text.get_text() for text in shapes] == [f"{node}x112x112" for node in range(length)]
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes(figure), 2))
    assert inside(figure)
    assert len(routes(figure)) == length - 1
    assert figure.get_size_inches()[0] <= 10  # it wraps: 30 in a row could not be read


def test_the_texts_of_a_chain_are_the_nodes_names_and_labels() -> None:
    texts = [text.get_text() for text in network_drawing(chain(["k3_e6", "skip"])).axes[0].texts]
    assert texts == [
        *("input", "1x8x8"),
        *("layer_01", "k3_e6", "32x4x4"),
        *("layer_02", "skip", "32x4x4"),
        *("head", "conv 1x1, pool"),
    ]


def test_the_arrows_of_a_cell_go_right_and_cross_no_box() -> None:
    graph = darts_cell()
    figure = network_drawing(graph)
    places = dict(zip(graph, boxes(figure), strict=True))
    assert inside(figure)
    assert not any(overlap(a, b) for a, b in itertools.combinations(places.values(), 2))
    assert len(routes(figure)) == graph.number_of_edges()
    for (source, target), route in zip(graph.edges, routes(figure), strict=True):
        assert places[source][2] <= route[0, 0] + 1e-6 < route[-1, 0] <= places[target][0] + 1e-6
        points = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(route)])
        for node, (left, top, right, bottom) in places.items():
            within = (points > (left + 0.01, top + 0.01)) & (points < (right - 0.01, bottom - 0.01))
            assert not within.all(1).any(), f"{source} -> {target} runs through {node}"


def test_a_graph_of_two_parts_is_drawn_whole() -> None:
    graph = nx.union(darts_cell(), darts_cell(), rename=("normal ", "reduce "))
    figure = network_drawing(graph)
    assert len(boxes(figure)) == len(graph)
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes(figure), 2))


def test_a_cycle_is_an_error() -> None:
    with pytest.raises(nx.NetworkXUnfeasible):
        network_drawing(nx.DiGraph([(0, 1), (1, 0)]))


def test_branches_that_need_not_cross_do_not() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(["first", "second"])
    graph.add_edges_from([("second", "middle"), ("middle", "last"), ("first", "last")])  # the last one passes "middle"
    figure = network_drawing(graph)
    tops = {node: top for node, (_, top, _, _) in zip(graph, boxes(figure), strict=True)}
    passing = dict(zip(graph.edges, routes(figure), strict=True))["first", "last"]
    assert (passing[1, 1] < tops["middle"]) == (tops["first"] < tops["second"])
