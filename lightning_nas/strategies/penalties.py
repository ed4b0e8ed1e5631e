"""Latency penalties of the architecture loss of differentiable searches.

A penalty holds a few numbers (``conf/strategy/penalty``); :meth:`Penalty.bind` to the costs of a space makes it a
function of task loss and expected cost. The formulas are in :mod:`lightning_nas.functional.penalties`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from lightning_nas.errors import LatencyTableError
from lightning_nas.functional.penalties import add_linear_loss, fbnet_loss, mnasnet_reward, mul_log_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace, look_up

Penalised = Callable[[Tensor, Tensor], Tensor]
"""(loss, expected cost in the table's unit) -> loss; scalars."""


@dataclass(frozen=True)
class Costs:
    """Costs of the architectures of a space.

    Attributes:
        name: of the space.
        unit: of the table.
        cheapest: no architecture costs less: the cheapest option everywhere, and the cheapest combination of options
            where several choices decide a cost together.
        uniform: expected cost when all options are equally likely, as at the beginning of a search.
    """

    name: str
    unit: str
    cheapest: float
    uniform: float

    @classmethod
    def of(cls, space: WeightSharingSpace, table: LatencyTable) -> Costs:
        """The costs of ``space`` by ``table``."""
        fixed, matrices = space.cost_matrices(table)
        cheapest = fixed + sum(float(matrix.min(-1).values.sum()) for matrix in matrices.values())
        uniform = fixed + sum(float(matrix.mean(-1).sum()) for matrix in matrices.values())
        together = dict[frozenset[tuple[str, int]], dict[frozenset[tuple[str, int, int]], float]]()
        for joint in space.joint_keys():
            shares = [1 / space.gate_shapes[group][1] for group, *_ in joint.gates]
            off, on = math.prod(1 - share for share in shares), math.prod(shares)
            cost = sum(look_up(table, key) for key in joint.keys)
            uniform += cost * {"none": off, "any": 1 - off, "all": on}[joint.when]
            if joint.when == "all":
                places = frozenset((group, choice) for group, choice, _ in joint.gates)
                combined, gates = together.setdefault(places, {}), frozenset(joint.gates)
                combined[gates] = combined.get(gates, 0) + cost
        for places, combined in together.items():
            if len(combined) == math.prod(space.gate_shapes[group][1] for group, _ in places):  # one of them is due
                cheapest += min(combined.values())
        return cls(space.name, table.unit, cheapest, uniform)

    @classmethod
    def drawn(cls, space: SearchSpace, table: LatencyTable, count: int, generator: torch.Generator) -> Costs:
        """An estimate for any space, from architectures drawn uniformly."""
        costs = [space.cost(space.sample(generator), table) for _ in range(count)]
        return cls(space.name, table.unit, min(costs), fmean(costs))


class Penalty(Checked, ABC):
    """Base class of the ways in which the expected cost enters the architecture loss."""

    @abstractmethod
    def bind(self, costs: Costs) -> Penalised:
        """The penalised loss in a space with these costs.

        Raises:
            LatencyTableError: the penalty is not defined for all of them.
        """


@dataclass(frozen=True)
class FBNetProduct(Penalty):
    """FBNet's product (:func:`~lightning_nas.functional.penalties.fbnet_loss`), in microseconds if the table has ms.

    Args:
        alpha: scale of the factor.
        beta: exponent of the logarithm.
    """

    alpha: PositiveFloat = 0.2
    beta: NonNegativeFloat = 0.6

    def bind(self, costs: Costs) -> Penalised:
        scale, unit = (1000.0, "microseconds") if costs.unit == "ms" else (1.0, costs.unit)
        _check_logarithm(costs.cheapest * scale, unit, costs, "FBNet's")
        return lambda loss, cost: fbnet_loss(loss, cost * scale, self.alpha, self.beta)


@dataclass(frozen=True)
class MulLog(Penalty):
    """ProxylessNAS' product (:func:`~lightning_nas.functional.penalties.mul_log_loss`).

    Args:
        alpha: scale of the factor.
        beta: exponent of the ratio of logarithms.
        reference: cost, in the table's unit, whose factor is ``alpha``; None for the cost where the search begins.
        scale: multiplies costs before the logarithm: 1 in the paper, 1000 takes that of microseconds for a table in ms.
    """

    alpha: PositiveFloat = 0.2
    beta: NonNegativeFloat = 0.3
    reference: PositiveFloat | None = None
    scale: PositiveFloat = 1.0

    def bind(self, costs: Costs) -> Penalised:
        reference = self.reference or costs.uniform
        _check_logarithm(min(reference, costs.cheapest) * self.scale, f"{costs.unit} x scale", costs, "mul#log's")

        def penalised(loss: Tensor, cost: Tensor) -> Tensor:
            return mul_log_loss(loss, cost * self.scale, cost.new_tensor(reference * self.scale), self.alpha, self.beta)

        return penalised


@dataclass(frozen=True)
class AddLinear(Penalty):
    """ProxylessNAS' sum (:func:`~lightning_nas.functional.penalties.add_linear_loss`).

    Args:
        weight: of the relative cost.
        reference: cost, in the table's unit, that adds nothing; None for the cost where the search begins.
    """

    weight: NonNegativeFloat = 0.1
    reference: PositiveFloat | None = None

    def bind(self, costs: Costs) -> Penalised:
        reference = self.reference or _begun_at(costs, "reference")
        return lambda loss, cost: add_linear_loss(loss, cost, reference, self.weight)


@dataclass(frozen=True)
class MnasNetProduct(Penalty):
    """MnasNet's trade-off (:func:`~lightning_nas.functional.penalties.mnasnet_reward`), for a loss and for a reward.

    A loss is divided by the factor that a reward is multiplied by.

    Args:
        target: cost, in the table's unit, that changes nothing; None for the cost where the search begins.
        alpha: exponent up to the target, -10 to 0.
        beta: exponent beyond the target, -10 to 0.
    """

    target: PositiveFloat | None = None
    alpha: Annotated[float, Interval(ge=-10, le=0)] = -0.07
    beta: Annotated[float, Interval(ge=-10, le=0)] = -0.07

    def bind(self, costs: Costs) -> Penalised:
        target = self.target or _begun_at(costs, "target")
        if costs.cheapest <= 0:
            self._check_power(costs.cheapest, costs)
        return lambda loss, cost: loss / mnasnet_reward(loss.new_ones(()), cost, target, self.alpha, self.beta)

    def reward(self, accuracy: float, cost: float, costs: Costs) -> float:
        """The reward of one architecture with this accuracy and cost.

        Raises:
            LatencyTableError: the cost is 0, whose power ``alpha`` is infinite.
        """
        if cost <= 0:
            self._check_power(cost, costs)
        return mnasnet_reward(accuracy, cost, self.target or _begun_at(costs, "target"), self.alpha, self.beta)

    def _check_power(self, cost: float, costs: Costs) -> None:
        if self.alpha < 0:
            raise LatencyTableError(
                f"an architecture of {costs.name} costs {cost:.3g} {costs.unit} by the latency table, and MnasNet's "
                f"trade-off takes the power {self.alpha:g} of the cost; use a table without such costs, or alpha=0"
            )


def _begun_at(costs: Costs, name: str) -> float:
    """The cost where the search begins, the reference of a penalty that was given none."""
    if costs.uniform <= 0:
        raise LatencyTableError(
            f"the architectures of {costs.name} cost {costs.uniform:.3g} {costs.unit} on average by the latency table; "
            f"a relative cost needs a {name} above 0: use another latency_table, or set the penalty's {name}"
        )
    return costs.uniform


def _check_logarithm(lowest: float, unit: str, costs: Costs, whose: str) -> None:
    if lowest <= 1:
        raise LatencyTableError(
            f"the cheapest architecture of {costs.name} would cost {lowest:.3g} {unit}: {whose} loss takes the "
            f"logarithm of the cost, which must be more than 1 {unit}; scale or re-measure the table"
        )
