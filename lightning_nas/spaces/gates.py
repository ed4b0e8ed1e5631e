"""Gates: the weights with which a supernet mixes its options in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Active = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Gates:
    """Weights of the options of a supernet, and the options that run.

    Each group has a matrix (choices, options); a row is one choice. Soft rows mix options, one-hot rows select one.
    Options that are not active are not computed. ``active`` holds Python integers, so that a one-path pass runs one
    operation a choice without waiting for the device.

    Attributes:
        values: float matrices (choices, options) by group; they may require a gradient.
        active: numbers of the options that run, for each choice, by group.
        one_path: each row is a constant one-hot row of its only active option, so that no multiplication is needed; or
            nothing of the choice runs.

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
        """Make gates under which every option runs."""
        return cls(values, {group: (tuple(range(m.shape[1])),) * m.shape[0] for group, m in values.items()})

    @classmethod
    def drawn(cls, values: Mapping[str, Tensor]) -> Gates:
        """Make gates under which only the largest option of each choice runs."""
        return cls(values, {g: tuple((i,) for i in m.argmax(-1).tolist()) for g, m in values.items()})

    @classmethod
    def one_hot(
        cls,
        chosen: Mapping[str, Sequence[int | None]],
        shapes: Mapping[str, tuple[int, int]],
        device: torch.device | None = None,
    ) -> Gates:
        """Make gates that select option ``chosen[group][i]`` at choice ``i`` with weight one; nothing runs for None."""
        values, active = {}, {}
        for group, indices in chosen.items():
            matrix = torch.zeros(shapes[group])
            for choice, option in enumerate(indices):
                if option is not None:
                    matrix[choice, option] = 1.0
            values[group] = matrix.to(device)
            active[group] = tuple(() if option is None else (option,) for option in indices)
        return cls(values, active, one_path=True)

    def to(self, device: torch.device) -> Gates:
        """Copy the gates to ``device``."""
        return Gates({group: rows.to(device) for group, rows in self.values.items()}, self.active, self.one_path)


@dataclass(frozen=True)
class Joint:
    """Cost that depends on several choices together, such as the concatenation of a loose end.

    If the rows of gates are probabilities of independent choices, it occurs with probability ``prod(1 - gate)`` over
    its gates, one minus that if ``when`` is "any", and ``prod(gate)`` if it is "all": exact, and linear in each row.

    Attributes:
        keys: cost keys of the operations that run.
        gates: (group, choice, option) of the options it depends on.
        when: they run if "none" of these options is chosen, if "any" is, or if "all" are.

    Example:
        >>> joint = Joint(("concatenate",), (("inputs", 0, 1), ("inputs", 1, 1)), "none")
        >>> joint.runs(Gates.one_hot({"inputs": [0, 0]}, {"inputs": (2, 2)}))
        True
        >>> joint.runs(Gates.one_hot({"inputs": [0, 1]}, {"inputs": (2, 2)}))
        False
    """

    keys: tuple[str, ...]
    gates: tuple[tuple[str, int, int], ...]
    when: Literal["none", "any", "all"]

    def runs(self, drawn: Gates) -> bool:
        """Return whether the operations run under one-path gates."""
        chosen = [option in drawn.active[group][choice] for group, choice, option in self.gates]
        return all(chosen) if self.when == "all" else any(chosen) == (self.when == "any")
