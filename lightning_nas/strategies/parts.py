"""Architectures as selections of one alternative of each independent part, for the strategies' targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.functional.projection import MOST_SHARED, Floats, Part, Shared, least
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace, look_up
from lightning_nas.spaces.gates import Joint

Gaps = Callable[[Architecture], Sequence[float]]
"""Relative excess of the costs of an architecture; none is above 0 where all limits are kept."""


class Parts:
    """The parts of a space (:meth:`~lightning_nas.spaces.base.WeightSharingSpace.parts`) as places in a row of gates.

    Attributes:
        width: of a row that holds all gates.
        gates: places of the gates that each alternative of each part switches on.
    """

    def __init__(self, space: WeightSharingSpace) -> None:
        self.space = space
        self._starts, self.width = dict[str, int](), 0
        for group, (choices, options) in space.gate_shapes.items():
            self._starts[group], self.width = self.width, self.width + choices * options
        self.gates = [[[self.place(*gate) for gate in taken] for taken in part] for part in space.parts()]

    def place(self, group: str, choice: int, option: int) -> int:
        """The place of a gate in a row."""
        return self._starts[group] + choice * self.space.gate_shapes[group][1] + option

    def architecture(self, taken: Sequence[int]) -> Architecture:
        """The architecture that takes these alternatives."""
        row = torch.zeros(self.width)
        row[[gate for part, number in zip(self.gates, taken, strict=True) for gate in part[number]]] = 1.0
        sizes = [choices * options for choices, options in self.space.gate_shapes.values()]
        rows = zip(self.space.gate_shapes.items(), torch.split(row, sizes), strict=True)
        return self.space.derive({group: values.reshape(shape) for (group, shape), values in rows})

    def climbed(self, scores: Floats, gaps: Gaps) -> list[int] | None:
        """Alternatives with a large sum of scores whose gaps are not above 0, for costs of any form.

        The cheapest selection takes the most probable alternatives one by one, in the order of what each gains, or
        gains in relation to its cost; then parts change as long as one finds a better alternative. The better of the
        two ends is taken: it is the best of all that differ from it in one part.

        Args:
            scores: of each gate.
            gaps: of an architecture.

        Returns:
            None if the cheapest selection that was found does not keep the limits.
        """
        own = [np.array([scores[gates].sum() for gates in part]) for part in self.gates]

        def worst(taken: Sequence[int]) -> float:
            return max(gaps(self.architecture(taken)))

        floor = self._lowest([int(values.argmax()) for values in own], worst)
        lowest = worst(floor)
        if lowest > 0:
            return None
        best = [int(values.argmax()) for values in own]
        single = {i: [*floor[:i], best[i], *floor[i + 1 :]] for i in range(len(own)) if best[i] != floor[i]}
        gains = {i: float(own[i][best[i]] - own[i][floor[i]]) for i in single}
        rates = {i: gain / max(worst(single[i]) - lowest, 1e-9) for i, gain in gains.items()}
        ends = []
        for order in (gains, rates):
            taken = list(floor)
            for i in sorted(order, key=lambda i: -order[i]):
                taken = _kept(taken, i, [best[i]], worst)
            ends.append(_highest(taken, own, worst))
        return max(ends, key=lambda taken: sum(values[number] for values, number in zip(own, taken, strict=True)))

    def _lowest(self, taken: list[int], worst: Callable[[Sequence[int]], float]) -> list[int]:
        """Alternatives with the lowest gap that changes of one part lead to."""
        lowest = worst(taken)
        while True:
            before = lowest
            for i, part in enumerate(self.gates):
                for number in range(len(part)):
                    changed = [*taken[:i], number, *taken[i + 1 :]]
                    if number != taken[i] and (gap := worst(changed)) < lowest:
                        taken, lowest = changed, gap
            if not lowest < before:
                return taken


def _kept(taken: list[int], i: int, wanted: Sequence[int], worst: Callable[[Sequence[int]], float]) -> list[int]:
    """The first alternative of ``wanted`` at part ``i`` that keeps the limits; none changes nothing."""
    changed = ([*taken[:i], number, *taken[i + 1 :]] for number in wanted)
    return next((each for each in changed if worst(each) <= 0), taken)


def _highest(taken: list[int], scores: Sequence[Floats], worst: Callable[[Sequence[int]], float]) -> list[int]:
    """Alternatives that no change of one part improves."""
    while True:
        before = taken
        for i, values in enumerate(scores):
            better = [int(number) for number in np.argsort(-values) if values[number] > values[taken[i]]]
            taken = _kept(taken, i, better, worst)
        if taken == before:
            return taken


class AdditiveParts(Parts):
    """The parts of a space whose costs add up, with the costs of some tables.

    Attributes:
        fixed: costs that are always due, of each table.
        shared: costs that parts decide together.
    """

    def __init__(self, space: WeightSharingSpace, tables: Sequence[LatencyTable]) -> None:
        super().__init__(space)
        longest = max(len(taken) for part in self.gates for taken in part)
        self._places = [
            np.array([taken + [self.width] * (longest - len(taken)) for taken in part]) for part in self.gates
        ]
        made = [space.cost_matrices(table) for table in tables]
        self.fixed = [fixed for fixed, _ in made]
        self._costs = np.stack([flat(matrices, space.gate_shapes) for _, matrices in made], 1)
        joints = space.joint_keys()
        self.shared = [_shared(joint, tables) for joint in joints]
        marks = np.zeros(self.width + 1, dtype=np.int64)
        for number, joint in enumerate(joints):
            for gate in joint.gates:
                marks[self.place(*gate)] |= np.int64(1 << number)
        self._marks = [np.bitwise_or.reduce(marks[places], 1) for places in self._places]

    def parts(self, scores: Floats, more: Sequence[Floats] = ()) -> list[Part]:
        """The parts with a score of each gate, and further costs of each gate."""
        costs = np.concatenate([self._costs, *(amounts[:, None] for amounts in more)], 1)
        costs = np.concatenate([costs, np.zeros((1, costs.shape[1]))])
        scores = np.append(scores, 0.0)
        return [
            Part(scores[places].sum(1), costs[places].sum(1), marks)
            for places, marks in zip(self._places, self._marks, strict=True)
        ]

    def cheapest(self) -> list[Architecture]:
        """The architecture of the least cost by each table."""
        parts = self.parts(np.zeros(self.width))
        found = [least(parts, k, fixed=self.fixed, shared=self.shared) for k in range(len(self.fixed))]
        return [self.architecture(one.taken) for one in found]


def adds_up(space: SearchSpace) -> bool:
    """Whether costs can be projected exactly: none needs several choices at once, and few are decided together."""
    if not isinstance(space, WeightSharingSpace):
        return False
    joints = space.joint_keys()
    return len(joints) <= MOST_SHARED and all(joint.when != "all" for joint in joints)


def flat(rows: Mapping[str, Tensor], order: Mapping[str, object] | None = None) -> Floats:
    """All groups of (choices, options) in one row, float64.

    >>> flat({"layers": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    row: Floats = torch.cat([rows[group].detach().cpu().double().flatten() for group in order or rows]).numpy()
    return row


def _shared(joint: Joint, tables: Sequence[LatencyTable]) -> Shared:
    assert joint.when != "all", "see adds_up"
    return Shared(np.array([sum(look_up(table, key) for key in joint.keys) for table in tables]), joint.when)
