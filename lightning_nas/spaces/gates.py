"""Gates: how a supernet mixes its options for one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Active = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Gates:
    """Float matrices (choices, options), one a group, and which options run.

    A row is one choice: soft rows mix, one-hot rows select. ``active`` holds plain Python integers, so that a
    one-path pass runs one operation a choice and never waits for a device to say which.

    Attributes:
        values: by group.
        active: likewise.
        one_path: every row is a constant with a one where its only active option is: nothing need be multiplied.

    Example:
        >>> soft = Gates.soft({"layers": torch.full((2, 3), 1 / 3)})
        >>> soft.active["layers"]
        ((0, 1, 2), (0, 1, 2))
        >>> Gates.one_hot({"layers": [2, 0]}, {"layers": (2, 3)}).values["layers"].tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    values: Mapping[str, Tensor]
    active: Mapping[str, Active]
    one_path: bool = False

    @classmethod
    def soft(cls, values: Mapping[str, Tensor]) -> Gates:
        """Gates under which every option runs."""
        return cls(values, {group: (tuple(range(m.shape[1])),) * m.shape[0] for group, m in values.items()})

    @classmethod
    def drawn(cls, values: Mapping[str, Tensor]) -> Gates:
        """Gates under which the largest option of each choice runs alone."""
        return cls(values, {g: tuple((i,) for i in m.argmax(-1).tolist()) for g, m in values.items()})

    @classmethod
    def one_hot(
        cls, chosen: Mapping[str, list[int]], shapes: Mapping[str, tuple[int, int]], device: torch.device | None = None
    ) -> Gates:
        """Gates that select option ``chosen[group][i]`` at choice ``i`` with weight one."""
        values = {}
        for group, indices in chosen.items():
            matrix = torch.zeros(shapes[group])
            matrix[range(len(indices)), indices] = 1.0
            values[group] = matrix.to(device)
        return cls(values, {group: tuple((i,) for i in indices) for group, indices in chosen.items()}, one_path=True)

    def to(self, device: torch.device) -> Gates:
        """The same gates on ``device``."""
        return Gates({group: rows.to(device) for group, rows in self.values.items()}, self.active, self.one_path)


@dataclass(frozen=True)
class Joint:
    """Something that is run or not by what several choices say together, such as the use of a loose end.

    Where the rows of gates are probabilities of independent choices, it is run with probability
    ``prod(1 - gate)`` over its gates, or one minus that if ``when`` is "any": exact, and linear in each row.

    Attributes:
        keys: cost keys of what is run.
        gates: (group, choice, option) of those that matter.
        when: it is run if "none" of them is chosen, or if "any" is.

    Example:
        >>> joint = Joint(("concatenate",), (("inputs", 0, 1), ("inputs", 1, 1)), "none")
        >>> joint.runs(Gates.one_hot({"inputs": [0, 0]}, {"inputs": (2, 2)}))
        True
        >>> joint.runs(Gates.one_hot({"inputs": [0, 1]}, {"inputs": (2, 2)}))
        False
    """

    keys: tuple[str, ...]
    gates: tuple[tuple[str, int, int], ...]
    when: Literal["none", "any"]

    def runs(self, drawn: Gates) -> bool:
        """Whether it is run under one-path gates."""
        chosen = any(option in drawn.active[group][choice] for group, choice, option in self.gates)
        return chosen == (self.when == "any")
