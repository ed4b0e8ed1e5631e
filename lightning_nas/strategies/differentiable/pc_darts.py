r"""PC-DARTS: partial channel connections (Xu et al., ICLR 2020, arXiv:1907.05737).

First-order DARTS in which only 1/k of the channels of every choice is mixed and the rest passes by, which saves memory
and time, and the choices that lead to one node are weighted by a softmax of their own, :math:`\beta` (edge
normalisation), which steadies what the channel sampling makes noisy. Both are trained by the architecture optimiser.
Choices are ranked by :math:`\mathrm{softmax}(\alpha) \, \mathrm{softmax}(\beta)`.

Differs from the paper: nothing on its cells. In other spaces, choices that change the width mix all channels, and a
choice that is alone at its node has :math:`\beta` = 1. Scores are those of the supernet's path,
partial as it was trained.
"""

import copy
from functools import partial
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.altered import partial_channels
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import Gated, Supernet, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch, small_noise
from lightning_nas.strategies.options import SoftmaxOptions
from lightning_nas.tasks.base import Task


class PCDARTS(DifferentiableSearch):
    r"""DARTS with partial channel connections and edge normalisation (PC-DARTS).

    .. math:: x_j = \sum_{i < j} \mathrm{softmax}(\beta)_{ij} \Big(
              \sum_o \mathrm{softmax}(\alpha_{ij})_o \, o(S_{ij} * x_i) + (1 - S_{ij}) * x_i \Big)

    where :math:`S` selects one in k channels. The logits :math:`\alpha` (choices, options) and :math:`\beta` (choices)
    are trained together; choices are ranked by the product of both softmaxes.

    Source: Xu et al., ICLR 2020, arXiv:1907.05737, sections 3.2 and 3.3. Deviations: choices that change the width mix
    all channels; scores are those of the path of the supernet, partial as it was trained.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        k: one in k channels is mixed.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = PCDARTS(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    mixes: ClassVar[bool] = True
    defaults: ClassVar[SoftmaxOptions] = {"arch_warmup_epochs": 4}  # the paper: a third of the search

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        k: Count = 4,
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        self.k = k  # make_supernet needs it
        super().__init__(space, task, table, **PCDARTS.defaults | options)
        choices = {group: shape[:1] for group, shape in space.gate_shapes.items()}
        self.beta = small_noise(choices, self.theta_std, self.seed, "beta")

    def make_supernet(self) -> Supernet:
        return self.space.supernet(partial(partial_channels, k=self.k))

    def arch_parameters(self) -> list[nn.Parameter]:
        return [*super().arch_parameters(), *(self.beta[group] for group in self.space.gate_shapes)]

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft({group: theta.softmax(-1) * self._edges(group) for group, theta in self.theta.items()})

    def preferences(self) -> dict[str, Tensor]:
        """The probabilities times the weights of the edges."""
        return {group: rows * self._edges(group).detach() for group, rows in self.probabilities().items()}

    def mixture(self) -> dict[str, Tensor]:
        return self.preferences()

    def inherited(self, architecture: Architecture) -> nn.Module:
        return Gated(copy.deepcopy(self.supernet), self.space.gates(architecture))

    def _edges(self, group: str) -> Tensor:
        """(choices, 1): softmax of beta over the choices that lead to the same node."""
        return softmax_by_node(self.beta[group], self.space.nodes(group)).unsqueeze(1)


def softmax_by_node(logits: Tensor, nodes: tuple[int, ...]) -> Tensor:
    """Softmax among the entries of each node.

    >>> softmax_by_node(torch.zeros(5), (0, 0, 1, 1, 1)).tolist()
    [0.5, 0.5, 0.3333333432674408, 0.3333333432674408, 0.3333333432674408]
    """
    index = torch.tensor(nodes, device=logits.device)
    exponents = (logits - logits.max()).exp()
    sums = torch.zeros_like(logits).index_add(0, index, exponents)
    return exponents / sums[index]
