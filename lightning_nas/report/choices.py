"""One name for each choice of a search, and what the answer takes there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_nas.architecture import Architecture
    from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace


@dataclass(frozen=True)
class Choices:
    """The names of the choices in each group of gates, and the options the answer takes.

    Attributes:
        names: for each group, the name of each choice.
        taken: for each group, the indices of the options the answer takes at each choice.
    """

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    taken: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, space: SearchSpace, answer: Architecture) -> Choices:
        """The choices of a space with a supernet; empty for other spaces.

        Args:
            space: the space of the search.
            answer: marked where it is of this space.
        """
        from lightning_nas.spaces.base import WeightSharingSpace  # imports torch, which the page does without

        if not isinstance(space, WeightSharingSpace):
            return cls()
        if answer.space != space.name:
            return cls({group: _numbered(space, group) for group in space.gate_shapes})
        moved = _moved(space, answer)
        names = {}
        for group, (choices, _) in space.gate_shapes.items():
            decisions = [moved.get((group, choice), []) for choice in range(choices)]
            firsts = tuple(names[0] for names in decisions if names)
            names[group] = firsts if len(set(firsts)) == choices else _edges(space, group, answer)
        taken = {group: tuple(map(tuple, rows)) for group, rows in space.gates(answer).active.items()}
        return cls(names, taken)

    def name(self, group: str, choice: int) -> str:
        """The name of a choice, or the group and a number from 1 where no name is known.

        >>> Choices({"layers": ("layer_01",)}).name("layers", 0), Choices().name("layers", 0)
        ('layer_01', 'layers 1')
        """
        names = self.names.get(group, ())
        return names[choice] if choice < len(names) else f"{group} {choice + 1}"

    def named(self, group: str, choices: int) -> list[str]:
        """The names of the first ``choices`` of a group."""
        return [self.name(group, choice) for choice in range(choices)]

    def rename(self, numbered: str) -> str:
        """The name of a choice given as ``"group number"``, the form of ``layers.csv``; other text as it is."""
        group, _, place = numbered.rpartition(" ")
        return (
            self.name(group, int(place) - 1) if group in self.names and place.isdecimal() and int(place) else numbered
        )


def _moved(space: WeightSharingSpace, answer: Architecture) -> dict[tuple[str, int], list[str]]:
    """For each choice of the gates, the decisions that change it when they are taken otherwise."""
    from lightning_nas.errors import InvalidArchitecture

    chosen, before = dict(answer.choices), space.gates(answer).active
    moved: dict[tuple[str, int], list[str]] = {}
    for decision in space.decisions:
        for option in decision.options:
            try:
                after = space.gates(space.validate({**chosen, decision.name: option})).active
            except InvalidArchitecture:  # another decision depends on this one
                continue
            places = [(g, i) for g, rows in after.items() for i, row in enumerate(rows) if row != before[g][i]]
            for place in places:
                moved.setdefault(place, []).append(decision.name)
            if places:
                break
    return moved


def _edges(space: WeightSharingSpace, group: str, answer: Architecture) -> tuple[str, ...]:
    """Names by the ends of an edge as the drawing of the cell names them, if the group has a cell of its name."""
    nodes = space.nodes(group)
    cell = next((cell for name, cell in space.cell_graphs(answer).items() if name.startswith(group)), None)
    if cell is None or len(set(nodes)) == len(nodes):
        return _numbered(space, group)
    states, counters = list(cell), {node: count() for node in nodes}
    inputs = nodes.count(nodes[0])  # the edges to the first node come from the inputs of the cell
    return tuple(f"{group} {states[next(counters[node])]} → {states[inputs + node]}" for node in nodes)


def _numbered(space: WeightSharingSpace, group: str) -> tuple[str, ...]:
    """Names by the node a choice leads to and, where a node has several choices, by their number there."""
    nodes = space.nodes(group)
    if len(set(nodes)) == len(nodes):
        return tuple(f"{group} {choice + 1}" for choice in range(len(nodes)))
    counters = {node: count(1) for node in nodes}
    return tuple(f"{group} node {node}, input {next(counters[node])}" for node in nodes)
