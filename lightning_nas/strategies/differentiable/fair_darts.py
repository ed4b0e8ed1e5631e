r"""Fair DARTS: eliminating unfair advantages (Chu et al., ECCV 2020, arXiv:1911.12126).

Every option has a weight of its own, :math:`\sigma(\alpha)`, and does not compete with the others of its choice;
``none`` is no option. A loss added to that of :math:`\alpha` pushes the weights to zero or one:
:math:`-w \, \mathrm{mean}((\sigma - 0.5)^2)`, or with the absolute value.

The answer keeps, of the two strongest edges into a node, every option above a threshold; nodes may stay without any.

Differs from the paper: where a search space takes one option a choice it answers by its own rule, and so does a cell
in which nothing is above the threshold. What is shown and scored during the search is by that rule too.
"""

from typing import Annotated, ClassVar, Literal, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.options import DifferentiableOptions
from lightning_nas.tasks.base import Batch, Task


class FairDARTS(DifferentiableSearch):
    r"""DARTS with independent sigmoid gates and a zero-one loss (Fair DARTS).

    .. math:: \bar{o}(x) = \sum_o \sigma(\alpha_o) \, o(x), \qquad
              L = L_{val} - w \, \mathrm{mean}\big((\sigma(\alpha) - 0.5)^2\big)

    The logits :math:`\alpha` (choices, options) do not compete within a choice; the option ``none`` has no gate. The
    zero-one loss pushes gates to 0 or 1.

    Source: Chu et al., ECCV 2020, arXiv:1911.12126, sections 4.1 to 4.3. Deviations: spaces with one option a choice,
    and cells without any gate above the threshold, are discretised by the rule of the space.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        zero_one: weight w of the zero-one loss.
        norm: "l2" for the square, "l1" for the absolute value.
        threshold: smallest gate of an option that is kept, 0.85 in the paper; None, or a target, for the rule of the
            space.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = FairDARTS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    softmax: ClassVar[bool] = False
    perturbable: ClassVar[bool] = False

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        zero_one: NonNegativeFloat = 10.0,
        norm: Literal["l1", "l2"] = "l2",
        threshold: Annotated[float, Interval(gt=0, lt=1)] | None = None,
        **options: Unpack[DifferentiableOptions],
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
        """The supernet as it is trained, with gates that need not sum to one."""
        with torch.no_grad():
            return Gated(self.supernet, self.gates(self.generator("validation")))

    def distribution(self) -> dict[str, Tensor]:
        """The gates of each choice, scaled to sum to one; ``none`` has no share."""
        shares = {}
        for group, theta in self.theta.items():
            kept = torch.zeros_like(theta)
            kept[:, self._kept[group]] = 1.0
            weights = theta.sigmoid() * kept
            shares[group] = weights / weights.sum(-1, keepdim=True)
        return shares

    @property
    def answer_rule(self) -> str:
        if self.threshold is None or self.target is not None:
            return super().answer_rule
        return f"every option with a gate above {self.threshold:g} at the end of the search; scores are not used"

    def choose(self) -> Architecture:
        """All options above the threshold, an architecture of ``space.wider()``; without one, :meth:`projected`.

        With a target too, since the table's costs are those of the rule of the space.
        """
        if self.threshold is None or self.target is not None:
            return self.projected()
        weights = {group: theta.detach().sigmoid() for group, theta in self.theta.items()}
        return self.space.derive_above(weights, self.threshold)


def zero_one_loss(weights: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """Zero-one loss: 0 if all gates are one half, and negative otherwise.

    >>> zero_one_loss(torch.tensor([0.5, 0.5]), "l2").item() == 0
    True
    >>> zero_one_loss(torch.tensor([0.0, 1.0]), "l2").item(), zero_one_loss(torch.tensor([0.0, 1.0]), "l1").item()
    (-0.25, -0.5)
    """
    distance = (weights - 0.5).abs()
    return -(distance if norm == "l1" else distance.square()).mean()
