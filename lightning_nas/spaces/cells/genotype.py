"""Genotypes: which operation each node of a cell applies to which earlier state, and which states are the output.

States 0 and 1 are the outputs of the two cells before, states 2, 3, ... are nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph

KINDS = ("normal", "reduce")
"""Cells that keep the size of their inputs, and cells that halve it."""


@dataclass(frozen=True)
class Genotype:
    """Operations and wiring of one kind of cell.

    Attributes:
        nodes: (operation, state) pairs of each node; a node without any is not there.
        concat: states whose concatenation is the output.
    """

    nodes: tuple[tuple[tuple[str, int], ...], ...]
    concat: tuple[int, ...]


def genotype_graphs(genotypes: Mapping[str, Genotype]) -> dict[str, CellGraph]:
    """Draw both kinds of cell as the DARTS paper does."""
    names = {"normal": "normal cell", "reduce": "reduction cell"}
    return {names[kind]: genotype_graph(genotype) for kind, genotype in genotypes.items()}


def genotype_graph(genotype: Genotype) -> CellGraph:
    """Draw one kind of cell as the DARTS paper does."""
    there = {number: str(number - 2) for number, node in enumerate(genotype.nodes, start=2) if node}
    states = {0: "c_{k-2}", 1: "c_{k-1}"} | there
    chosen = [
        (states[state], states[number], option)
        for number, node in enumerate(genotype.nodes, start=2)
        for option, state in node
    ]
    output = "c_{k}"
    edges = [*chosen, *((states[state], output, "") for state in genotype.concat)]
    return cell_graph({name: name for name in (*states.values(), output)}, edges)
