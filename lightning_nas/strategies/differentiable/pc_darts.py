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
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.altered import partial_channels
from lightning_nas.spaces.base import Gated, WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch, small_noise
from lightning_nas.tasks.base import Task


class PCDARTS(DifferentiableSearch):
    """Partial channels and edge normalisation.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown or penalised.
        k: one in k channels is mixed.
        theta_std: standard deviation of alpha and beta at the beginning.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        k: PositiveInt = 4,
        theta_std: NonNegativeFloat = 1e-3,
        **options: Any,
    ) -> None:
        mix = partial(partial_channels, k=k)
        super().__init__(space, task, table, theta_std=theta_std, mix=mix, **options)
        choices = {group: shape[:1] for group, shape in space.gate_shapes.items()}
        self.beta = small_noise(choices, theta_std, self.seed, "beta")

    def arch_parameters(self) -> list[nn.Parameter]:
        return [*super().arch_parameters(), *(self.beta[group] for group in self.space.gate_shapes)]

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft({group: theta.softmax(-1) * self._edges(group) for group, theta in self.theta.items()})

    def derive(self) -> Architecture:
        ranked = {group: rows * self._edges(group).detach() for group, rows in self.probabilities().items()}
        return self.space.derive(ranked)

    def inherited(self, architecture: Architecture) -> nn.Module:
        return Gated(copy.deepcopy(self.supernet), self.space.gates(architecture))

    def _edges(self, group: str) -> Tensor:
        """(choices, 1): the softmax of beta over the choices that lead to the same node."""
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
