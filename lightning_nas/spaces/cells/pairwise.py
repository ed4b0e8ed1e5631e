"""Cells whose nodes take two earlier states each and an operation on either (NASNet, arXiv:1707.07012).

States 0 and 1 are the outputs of the two cells before, states 2, 3, ... are nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from lightning_nas.architecture import Decision

Node = tuple[tuple[str, int], ...]
"""(operation, state) of each of its operations."""

SLOTS = (0, 1)  # a node has two operations


def states(count: int) -> tuple[str, ...]:
    """List the names of the first states.

    >>> states(3)
    ('s0', 's1', 's2')
    """
    return tuple(f"s{i}" for i in range(count))


def decisions(kind: str, nodes: int, operations: Sequence[str], joins: Sequence[str] = ("add",)) -> Iterator[Decision]:
    """Yield the decisions of a cell: both inputs, then both operations of each node, as the papers' controllers do.

    Args:
        kind: kind of the cell.
        nodes: number of nodes.
        operations: options of either operation.
        joins: ways to make one state of two outputs; the last decision of a node, if there are several.

    >>> [decision.name for decision in decisions("cell", 1, ("conv",))]
    ['cell_2_input_1', 'cell_2_input_2', 'cell_2_op_1', 'cell_2_op_2']
    """
    for i in range(2, nodes + 2):
        node, earlier = f"{kind}_{i}", tuple(f"{kind}_{j}" for j in range(i))
        for slot in SLOTS:
            yield Decision(f"{node}_input_{slot + 1}", states(i), node, refers=earlier)
        for slot in SLOTS:
            yield Decision(f"{node}_op_{slot + 1}", tuple(operations), node)
        if len(joins) > 1:
            yield Decision(f"{node}_join", tuple(joins), node)


def chosen_nodes(kind: str, nodes: int, choices: Mapping[str, str]) -> tuple[Node, ...]:
    """Read the nodes of a cell from choices: the inverse of :func:`node_choices`."""
    return tuple(
        tuple(
            (choices[f"{kind}_{i}_op_{slot + 1}"], int(choices[f"{kind}_{i}_input_{slot + 1}"][1:])) for slot in SLOTS
        )
        for i in range(2, nodes + 2)
    )


def node_choices(kind: str, nodes: Sequence[Node]) -> dict[str, str]:
    """Make the choices that give these nodes."""
    made: dict[str, str] = {}
    for i, node in enumerate(nodes, start=2):
        made |= {f"{kind}_{i}_input_{slot + 1}": f"s{node[slot][1]}" for slot in SLOTS}
        made |= {f"{kind}_{i}_op_{slot + 1}": node[slot][0] for slot in SLOTS}
    return made


def unused(nodes: Sequence[Node]) -> tuple[int, ...]:
    """List the states that no node takes.

    >>> unused([(("conv", 0), ("conv", 0)), (("conv", 2), ("conv", 0))])
    (1, 3)
    """
    used = {state for node in nodes for _, state in node}
    return tuple(state for state in range(len(nodes) + 2) if state not in used)


def canonical_order(nodes: Sequence[Node], marks: Sequence[str]) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    """Order nodes, and the two operations of each, in one canonical way: equivalent cells become equal.

    Args:
        nodes: nodes of a cell.
        marks: one text for each node: nodes with different marks are different.

    Returns:
        The nodes in the new order, and the old number of each.

    >>> swapped = [(("pool", 1), ("conv", 0)), (("conv", 1), ("conv", 0))]
    >>> canonical_order(swapped, ["", ""])
    (((('conv', 0), ('conv', 1)), (('conv', 0), ('pool', 1))), (1, 0))
    """
    # the smallest list of nodes: the smallest node that could be next comes next; ties are all tried
    found = min(_orders(nodes, marks, {0: 0, 1: 1}, range(len(nodes))))
    return tuple(node for node, _ in found[0]), found[1]


_Orders = Iterator[tuple[tuple[tuple[Node, str], ...], tuple[int, ...]]]


def _orders(nodes: Sequence[Node], marks: Sequence[str], names: dict[int, int], left: Collection[int]) -> _Orders:
    if not left:
        yield (), ()
        return
    ready: dict[int, tuple[Node, str]] = {}
    for number in left:
        if all(state in names for _, state in nodes[number]):
            renamed = sorted((names[state], option) for option, state in nodes[number])
            ready[number] = tuple((option, state) for state, option in renamed), marks[number]
    least = min(ready.values())
    for number in (number for number, node in ready.items() if node == least):
        others = [other for other in left if other != number]
        for rest, order in _orders(nodes, marks, names | {number + 2: len(names)}, others):
            yield (least, *rest), (number, *order)
