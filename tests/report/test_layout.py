"""Columns, levels and routes, against brute force and by what must not touch."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lightning_nas.report.layout import layered, spread


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 1)), min_size=2, max_size=5))
def test_spread_is_the_nearest_arrangement_without_overlap(boxes: list[tuple[float, float]]) -> None:
    wishes, heights = zip(*boxes, strict=True)
    steps = [(a + b) / 2 + 0.12 for a, b in itertools.pairwise(heights)]
    apart = [{"type": "ineq", "fun": lambda y, i=i, step=step: y[i + 1] - y[i] - step} for i, step in enumerate(steps)]
    start = np.cumsum([0.0, *steps])
    known = minimize(lambda y: float(((y - wishes) ** 2).sum()), start, constraints=apart, method="SLSQP").x
    assert spread(wishes, heights) == pytest.approx(known, abs=1e-3)


def test_late_nodes_stand_in_the_column_before_what_they_lead_to() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "word"), ("word", "c"), ("b", "d"), ("d", "e"), ("c", "e")])
    boxes = dict.fromkeys(graph, (0.5, 0.3))
    early, late = (layered(graph, boxes, late=some).places for some in ((), ("word",)))
    assert early["word"][0] == early["b"][0]
    assert late["word"][0] == late["b"][0] < late["c"][0]
    graph.add_edge("d", "c")  # c moves right, and the word with it
    places = layered(graph, boxes, late=("word",)).places
    assert places["word"][0] == places["d"][0] > places["b"][0]


def test_a_drawing_without_crossings_is_found() -> None:
    graph = nx.DiGraph([(f"in {i}", f"out {j}") for i, j in enumerate((3, 1, 0, 2))])
    places = layered(graph, dict.fromkeys(graph, (1.0, 0.3))).places
    heads = [places[f"in {i}"][1] for i in range(4)]
    tails = [places[f"out {j}"][1] for j in (3, 1, 0, 2)]
    assert np.argsort(heads).tolist() == np.argsort(tails).tolist()


def test_the_first_input_is_on_top() -> None:
    for order in itertools.permutations("xyz"):
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(["first", "second"])
        graph.add_edges_from((source, node) for node in order for source in ("first", "second"))
        places = layered(graph, dict.fromkeys(graph, (1.0, 0.3))).places
        assert places["first"][1] < places["second"][1]
