"""The expected cost of soft choices: what a latency-aware loss differentiates."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates


class ExpectedCost(nn.Module):
    r"""The cost of any gates, linear in them: FBNet's look-up table model (arXiv:1812.03443, equation 4).

    .. math:: \mathrm{LAT}(m) = \mathrm{LAT}_0 + \sum_l \sum_i m_{l,i} \cdot \mathrm{LAT}_{l,i}

    Args:
        space: says which operations each option runs.
        table: cost of each operation; the result has its unit.

    Raises:
        LatencyTableError: an operation is missing.
    """

    def __init__(self, space: WeightSharingSpace, table: Mapping[str, float]) -> None:
        super().__init__()
        fixed, matrices = space.cost_matrices(table)
        self.fixed: Tensor
        # not in the state: the table is the source, and a checkpoint must not bring its own
        self.register_buffer("fixed", torch.tensor(fixed, dtype=torch.float32), persistent=False)
        self.groups = tuple(matrices)
        for i, matrix in enumerate(matrices.values()):
            self.register_buffer(f"matrix_{i}", matrix.float(), persistent=False)

    def forward(self, gates: Gates) -> Tensor:
        """A float32 scalar in the table's unit; its gradient with respect to a gate is the table's entry."""
        cost = self.fixed
        for i, group in enumerate(self.groups):
            matrix: Tensor = self.get_buffer(f"matrix_{i}")
            cost = cost + (gates.values[group].float() * matrix).sum()
        return cost
