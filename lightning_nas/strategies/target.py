r"""Costs that an answer must keep: ``target``, ``target_ms``, ``target_macs``, ``target_params``.

A search with a target answers with an architecture whose cost by the table is at most the target and, where the space
has such an architecture, at least 97 % of it. In spaces with a supernet, whose costs add up, it is found exactly
(:mod:`lightning_nas.functional.projection`): the most probable one, or the one nearest to a given one. Where costs do
not add up, as in networks of one's own, a probable one is climbed to from a cheap one
(:meth:`lightning_nas.strategies.parts.Parts.climbed`). Spaces without a supernet (NASNet, PNAS, Block-QNN, EAS,
MnasNet, ...) keep the target by changing decisions to those of a cheap architecture, one after another. In these two
the 97 % are not looked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, shown
from lightning_nas.functional.projection import Floats, Shared, project
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.evolution import blended, cheapest
from lightning_nas.strategies.parts import AdditiveParts, Parts, adds_up, flat
from lightning_nas.training.seeding import generator

Wanted = PositiveFloat | Mapping[str, PositiveFloat]
"""A cost in the unit of the table, or costs by "table", "ms", "macs" and "params"."""

NAMES = {"table": "target", "ms": "target_ms", "macs": "target_macs", "params": "target_params"}
NEAR = 0.97  # share of a target that an answer has at least, where the space has such architectures
_ROUNDING = 1e-12  # sums in another order differ by less
_IMPROBABLE = 1e-30  # stands for a probability of 0
_TIE = 1e-3  # random part of the score of an option, where the nearest architecture is looked for
_UNITS = {"ms": "ms", "macs": "MACs", "params": "params"}


@dataclass(frozen=True)
class Limit:
    """One target.

    Attributes:
        name: of the option that sets it.
        asked: the cost asked for.
        value: the cost that the table's must keep, less than ``asked`` if networks take longer than the table says.
        unit: of both.
        table: cost of each operation.
    """

    name: str
    asked: float
    value: float
    unit: str
    table: LatencyTable

    def __str__(self) -> str:
        return f"{self.name}={self.asked:g} {self.unit}"


class Target:
    """The costs that the answer of a search must keep.

    Args:
        space: of the search.
        limits: at least one.
        seed: of the random starts from which the cheapest architecture is looked for, in spaces without a supernet.

    Attributes:
        cheapest: the least possible cost by each limit; in spaces without a supernet the least that was found.

    Raises:
        ConfigError: no architecture keeps a limit, or all of them; names the cheapest.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> space = ToySpace()
        >>> target = Target.of(space, LatencyTable.macs(space), 590)
        >>> undecided = {"layers": torch.tensor([[0.1, 0.3, 0.6], [0.1, 0.2, 0.7]])}
        >>> str(target.project(undecided)), target.costs(target.project(undecided))
        ('swap keep', (576.0,))
    """

    def __init__(self, space: SearchSpace, limits: Sequence[Limit], seed: int = 0) -> None:
        self.space, self.limits, self.seed = space, tuple(limits), seed
        self._additive: AdditiveParts | None = None
        if isinstance(space, WeightSharingSpace) and adds_up(space):
            self._additive = AdditiveParts(space, [limit.table for limit in limits])
        self._cheap = self._cheapest()
        pairs = zip(self._cheap, self.limits, strict=True)
        self.cheapest = tuple(self.space.cost(architecture, limit.table) for architecture, limit in pairs)
        self._check()

    @classmethod
    def of(cls, space: SearchSpace, table: LatencyTable | None, wanted: Wanted | None, seed: int = 0) -> Target | None:
        """The target of a strategy's argument; None for none.

        Args:
            space: of the search.
            table: of the search, if it has one.
            wanted: a cost in the unit of the table, or costs by "table", "ms", "macs" and "params".
            seed: of the search.

        Raises:
            ConfigError: it is no positive number, needs another table, or cannot be kept.
        """
        if wanted is None:
            return None
        costs: Mapping[str, Any] = wanted if isinstance(wanted, Mapping) else {"table": wanted}
        if unknown := [name for name in costs if name not in NAMES]:
            raise ConfigError(f"target: {shown(unknown[0])} is no cost; legal: {', '.join(NAMES)}")
        for name, cost in costs.items():
            if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 < cost < math.inf:
                raise ConfigError(f"{NAMES[name]}: got {shown(cost)}; legal: a positive number, or none")
        return cls(space, [_limit(name, float(cost), space, table) for name, cost in costs.items()], seed)

    # -- what keeps it ------------------------------------------------------------------------------------------

    def costs(self, architecture: Architecture) -> tuple[float, ...]:
        """Costs of an architecture by the tables of the limits."""
        return tuple(self.space.cost(architecture, limit.table) for limit in self.limits)

    def gaps(self, architecture: Architecture) -> tuple[float, ...]:
        """Relative excess of each cost over its limit; negative where there is room."""
        return tuple(cost / limit.value - 1 for cost, limit in zip(self.costs(architecture), self.limits, strict=True))

    def keeps(self, architecture: Architecture) -> bool:
        """Whether no cost is above its limit."""
        return all(cost <= limit.value for cost, limit in zip(self.costs(architecture), self.limits, strict=True))

    def meets(self, architecture: Architecture) -> bool:
        """Whether the limits are kept and one of them is used to 97 %, if the space has such architectures."""
        costs = self.costs(architecture)
        pairs = list(zip(costs, self.limits, strict=True))
        kept = all(cost <= limit.value for cost, limit in pairs)
        return kept and (not self._can_be_near or any(cost >= NEAR * limit.value for cost, limit in pairs))

    # -- architectures that meet it -----------------------------------------------------------------------------

    def project(self, probabilities: Mapping[str, Tensor], caps: Sequence[tuple[Floats, float]] = ()) -> Architecture:
        """The most probable architecture that meets the target; where costs do not add up, a probable one.

        Args:
            probabilities: ``{group: (choices, options)}``; a probability of 0 counts as 1e-30.
            caps: further limits: an amount of each option, all groups in one row as in :meth:`flat`, and the most of
                its sum; left out where nothing keeps them too.
        """
        scores = np.log(np.maximum(flat(probabilities), _IMPROBABLE))
        if self._additive is None:
            assert isinstance(self.space, WeightSharingSpace)
            assert not caps, "of spaces whose costs add up"
            parts = Parts(self.space)
            taken = parts.climbed(scores, self.gaps)
            return self.floor if taken is None else parts.architecture(taken)
        found = self._best(scores, caps=caps) if caps else None
        found = found or self._best(scores)
        assert found is not None
        return found

    def nearest(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """An architecture that meets the target and differs from this one in few choices.

        The architecture itself if it meets the target; one of several is drawn.
        """
        if self.meets(architecture):
            return architecture
        if self._additive is None or not isinstance(self.space, WeightSharingSpace):
            return blended(self.space, architecture, self.floor, self.keeps, generator)
        own = flat(self.space.gates(architecture).values)
        found = self._best(own + _TIE * torch.rand(len(own), generator=generator).double().numpy(), quick=True)
        assert found is not None
        return found

    def tightened(self, values: Sequence[float]) -> Target:
        """The same target with other bounds of the table's costs, at least those of the cheapest architecture.

        This target itself where no architecture keeps all the bounds.
        """
        pairs = zip(self.limits, values, self.cheapest, strict=True)
        try:
            return Target(self.space, [replace(limit, value=max(v, low)) for limit, v, low in pairs], self.seed)
        except ConfigError:
            return self

    @cached_property
    def floor(self) -> Architecture:
        """An architecture that keeps the target: the cheapest in relation to it."""
        if self._additive is not None:
            found = self._best(np.zeros(self._additive.width), near=False)
            assert found is not None
            return found
        found = cheapest(self.space, lambda a: max(self.gaps(a)), generator(self.seed, "target"))
        return min((found, *self._cheap), key=lambda a: max(self.gaps(a)))

    @cached_property
    def _can_be_near(self) -> bool:
        if self._additive is None:
            return False
        found = self._best(np.zeros(self._additive.width), quick=True)
        return found is not None and any(gap >= NEAR - 1 for gap in self.gaps(found))

    def _best(
        self, scores: Floats, *, caps: Sequence[tuple[Floats, float]] = (), near: bool = True, quick: bool = False
    ) -> Architecture | None:
        """The architecture with the largest sum of scores: near the target, else below it; None if none keeps it."""
        assert self._additive is not None
        parts = self._additive.parts(scores, [amounts for amounts, _ in caps])
        nothing = [0.0] * len(caps)
        shared = [Shared(np.append(one.costs, nothing), one.when) for one in self._additive.shared]
        fixed = [*self._additive.fixed, *nothing]
        for margin in (_ROUNDING, -_ROUNDING):  # then too strict, where the sum in the space's order is above
            values = [limit.value * (1 + margin) for limit in self.limits]
            limits = [*values, *(most for _, most in caps)]
            floors = [(k, NEAR * value) for k, value in enumerate(values)] if near else []
            made = [project(parts, limits, fixed=fixed, shared=shared, floor=floor, quick=quick) for floor in floors]
            found = max((one for one in made if one is not None), key=lambda one: one.score, default=None)
            found = found or project(parts, limits, fixed=fixed, shared=shared, quick=quick)
            if found is not None and self.keeps(architecture := self._additive.architecture(found.taken)):
                return architecture
        return None

    # -- what is possible ---------------------------------------------------------------------------------------

    def _cheapest(self) -> list[Architecture]:
        """The cheapest architecture by each limit."""
        if self._additive is None:
            costs = [partial(self.space.cost, table=limit.table) for limit in self.limits]
            return [cheapest(self.space, cost, generator(self.seed, "cheapest")) for cost in costs]
        return self._additive.cheapest()

    def _check(self) -> None:
        found = "" if self._additive else " that was found"
        for limit, cost in zip(self.limits, self.cheapest, strict=True):
            if cost > limit.value:
                raise ConfigError(
                    f"{limit}: the cheapest architecture of {self.space.name}{found} costs {cost:.6g} {limit.unit}; "
                    "legal: at least that, or null"
                )
        none = self._additive is not None and self._best(np.zeros(self._additive.width), near=False) is None
        if none or (self._additive is None and not self.keeps(self.floor)):
            said = " and ".join(map(str, self.limits))
            costs = ", ".join(f"{c:.6g} {limit.unit}" for c, limit in zip(self.cheapest, self.limits, strict=True))
            raise ConfigError(
                f"{said}: no architecture of {self.space.name}{found} keeps all of them; the cheapest by each alone "
                f"cost {costs}"
            )


def exactly_cheapest(space: WeightSharingSpace, table: LatencyTable) -> Architecture | None:
    """The architecture of the least cost by a table; None where the costs of the space do not add up.

    >>> from lightning_nas.testing.toys import ToySpace
    >>> str(exactly_cheapest(ToySpace(), LatencyTable.macs(ToySpace())))
    'blur blur'
    """
    return AdditiveParts(space, [table]).cheapest()[0] if adds_up(space) else None


def _limit(name: str, cost: float, space: SearchSpace, table: LatencyTable | None) -> Limit:
    option = NAMES[name]
    if name == "macs" or name == "params":
        own = table is not None and table.unit == _UNITS[name]
        count = LatencyTable.macs if name == "macs" else LatencyTable.params
        table = table if own else count(space)
    check_unit(name, cost, None if table is None else table.unit)
    assert table is not None
    return Limit(option, cost, cost, table.unit, table)


def check_unit(name: str, cost: float, unit: str | None) -> None:
    """Refuse a target in the unit of a table where there is none, and one in milliseconds where it has others.

    Args:
        name: "table", "ms", "macs" or "params".
        cost: of the target, for the message.
        unit: of the table; None for no table.

    Raises:
        ConfigError: names the target.

    Example:
        >>> check_unit("ms", 2.5, "MACs")
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: target_ms=2.5 needs latencies, and the latency table is in MACs; choose ...
    """
    if unit is None and name in ("table", "ms"):
        raise ConfigError(f"{NAMES[name]}={cost:g} needs costs; choose latency_table=measured, macs, params or file")
    if name == "ms" and unit != "ms":
        raise ConfigError(
            f"{NAMES[name]}={cost:g} needs latencies, and the latency table is in {unit}; choose "
            "latency_table=measured or file"
        )
