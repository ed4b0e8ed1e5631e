"""Networks that are chains of parts, whatever the family: their picture, and one option a block of a supernet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
from torch import Tensor


def chain_graph(nodes: Iterable[tuple[str, str]]) -> nx.DiGraph[str]:
    """Draw a chain of nodes (name, label)."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = []
    for name, label in nodes:
        graph.add_node(name, label=label)
        names.append(name)
    nx.add_path(graph, names)
    return graph


def chosen_state(state: Mapping[str, Tensor], blocks: str, chosen: Sequence[str]) -> dict[str, Tensor]:
    """Select one option a block from the state of a supernet, under the names of the stand-alone network.

    Args:
        state: state of the supernet; an option of a block is called ``BLOCKS.NUMBER.OPTION``.
        blocks: name of the list of blocks.
        chosen: option of each block.

    >>> state = {"stem": 0, "blocks.0.keep.w": 1, "blocks.0.skip.w": 2}
    >>> chosen_state(state, "blocks", ["skip"])
    {'stem': 0, 'blocks.0.w': 2}
    """
    kept = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == blocks:
            block, option, rest = rest.split(".", 2)
            if chosen[int(block)] != option:
                continue
            name = f"{blocks}.{block}.{rest}"
        kept[name] = value
    return kept
