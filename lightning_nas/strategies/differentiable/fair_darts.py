r"""Fair DARTS: eliminating unfair advantages (Chu et al., ECCV 2020, arXiv:1911.12126).

Every option has a weight of its own, :math:`\sigma(\alpha)`, and does not compete with the others of its choice;
``none`` is no option. A loss added to that of :math:`\alpha` pushes the weights to zero or one:
:math:`-w \, \mathrm{mean}((\sigma - 0.5)^2)`, or with the absolute value.

The answer keeps, of the two strongest edges into a node, every option above a threshold; nodes may stay without any.

Differs from the paper: where a search space takes one option a choice it answers by its own rule, and so does a cell
in which nothing is above the threshold. What is shown and scored during the search is by that rule too.
"""

from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.tasks.base import Batch, Task


class FairDARTS(DifferentiableSearch):
    """Independent sigmoid gates with a zero-one loss.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        zero_one: weight of the zero-one loss.
        norm: "l2" (the square) or "l1" (the absolute value).
        threshold: weight from which on an option is kept; None answers by the space's own rule.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        zero_one: NonNegativeFloat = 10.0,
        norm: Literal["l1", "l2"] = "l2",
        threshold: Annotated[float, Interval(gt=0, lt=1)] | None = 0.85,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **options)
        self.zero_one, self.norm, self.threshold = zero_one, norm, threshold
        self._kept = {
            group: [i for i, option in enumerate(names) if option != "none"]
            for group, names in space.gate_options.items()
        }

    def gates(self, generator: torch.Generator) -> Gates:
        values = {group: theta.sigmoid() for group, theta in self.theta.items()}
        active = {group: (tuple(self._kept[group]),) * len(theta) for group, theta in self.theta.items()}
        return Gates(values, active)

    def arch_loss(self, batch: Batch) -> Tensor:
        weights = [theta[:, self._kept[group]].sigmoid().flatten() for group, theta in self.theta.items()]
        return super().arch_loss(batch) + self.zero_one * zero_one_loss(torch.cat(weights), self.norm)

    def validated(self) -> nn.Module:
        """The supernet as it is trained: weights of a choice need not sum to one."""
        with torch.no_grad():
            return Gated(self.supernet, self.gates(self.generator("validation")))

    def distribution(self) -> dict[str, Tensor]:
        """The weights of each choice, scaled to sum to one; ``none`` has no share."""
        shares = {}
        for group, theta in self.theta.items():
            kept = torch.zeros_like(theta)
            kept[:, self._kept[group]] = 1.0
            weights = theta.sigmoid() * kept
            shares[group] = weights / weights.sum(-1, keepdim=True)
        return shares

    def answer(self) -> Architecture:
        """All options above the threshold, an architecture of the space's ``wider()``; or that of :meth:`derive`."""
        if self.threshold is None:
            return self.derive()
        weights = {group: theta.detach().sigmoid() for group, theta in self.theta.items()}
        return self.space.derive_above(weights, self.threshold)


def zero_one_loss(weights: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """0 where all weights are one half, falling as they leave it.

    >>> zero_one_loss(torch.tensor([0.5, 0.5]), "l2").item() == 0
    True
    >>> zero_one_loss(torch.tensor([0.0, 1.0]), "l2").item(), zero_one_loss(torch.tensor([0.0, 1.0]), "l1").item()
    (-0.25, -0.5)
    """
    distance = (weights - 0.5).abs()
    return -(distance if norm == "l1" else distance.square()).mean()
