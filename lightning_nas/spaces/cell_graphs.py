"""Graphs of cells as papers draw them: states are nodes, chosen operations are edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import networkx as nx

CellGraph: TypeAlias = "nx.MultiDiGraph[str]"


def cell_graph(states: Mapping[str, str], edges: Iterable[tuple[str, str, str]]) -> CellGraph:
    """Draw one cell, for :meth:`~lightning_nas.spaces.base.SearchSpace.cell_graphs`.

    Args:
        states: label of each state by name, in order: inputs, nodes, output.
        edges: (source, target, operation); the operation is the name of the option, "" where there is no choice.

    Example:
        >>> cell_graph({"x": "x", "y": "y"}, [("x", "y", "conv")]).edges["x", "y", 0]["label"]
        'conv'
    """
    graph: CellGraph = nx.MultiDiGraph()
    for name, label in states.items():
        graph.add_node(name, label=label)
    for source, target, operation in edges:
        graph.add_edge(source, target, label=operation)
    return graph
