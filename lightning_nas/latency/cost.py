"""The expected cost of soft choices, the differentiable term of a latency-aware loss."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_nas.spaces.base import WeightSharingSpace, look_up
from lightning_nas.spaces.gates import Gates


class ExpectedCost(nn.Module):
    r"""Cost as a function of the gates, linear in each row: FBNet's look-up table model (arXiv:1812.03443, equation 4).

    .. math:: \mathrm{LAT}(m) = \mathrm{LAT}_0 + \sum_l \sum_i m_{l,i} \cdot \mathrm{LAT}_{l,i}

    An operation that several choices decide together
    (:meth:`~lightning_nas.spaces.base.WeightSharingSpace.joint_keys`) adds its cost times the probability that it runs.

    Args:
        space: gives the operations that each option runs.
        table: cost of each operation; the result has its unit.

    Raises:
        LatencyTableError: the table lacks an operation.

    Example:
        >>> from lightning_nas.latency.table import LatencyTable
        >>> from lightning_nas.testing.toys import ToySpace
        >>> space = ToySpace()
        >>> table = LatencyTable.macs(space)
        >>> expected = ExpectedCost(space, table)(space.gates(space.best))
        >>> expected.item() == space.cost(space.best, table)
        True
    """

    def __init__(self, space: WeightSharingSpace, table: Mapping[str, float]) -> None:
        super().__init__()
        fixed, matrices = space.cost_matrices(table)
        joints = space.joint_keys()
        costs = [sum(look_up(table, key) for key in joint.keys) for joint in joints]
        # cost of "if any gate is on" = cost of always - cost of "if no gate is on"
        signs = torch.tensor([-1.0 if joint.when == "any" else 1.0 for joint in joints])
        fixed += sum(cost for cost, joint in zip(costs, joints, strict=True) if joint.when == "any")
        self.fixed: Tensor
        self.joint: Tensor
        self.places: Tensor
        # not in the state: the table is the source, and a checkpoint must not bring its own
        self.register_buffer("fixed", torch.tensor(fixed, dtype=torch.float32), persistent=False)
        self.groups = tuple(matrices)
        for i, matrix in enumerate(matrices.values()):
            self.register_buffer(f"matrix_{i}", matrix.float(), persistent=False)
        self.register_buffer("joint", torch.tensor(costs, dtype=torch.float32) * signs, persistent=False)
        self.register_buffer("places", _places(space), persistent=False)

    def forward(self, gates: Gates) -> Tensor:
        """Cost of the gates, a float32 scalar in the unit of the table."""
        cost = self.fixed
        for i, group in enumerate(self.groups):
            matrix: Tensor = self.get_buffer(f"matrix_{i}")
            cost = cost + (gates.values[group].float() * matrix).sum()
        if len(self.joint):
            flat = torch.cat([gates.values[group].float().flatten() for group in self.groups])
            factors = torch.cat([1 - flat, flat, flat.new_ones(1)])[self.places]
            cost = cost + (self.joint * factors.prod(1)).sum()
        return cost


def _places(space: WeightSharingSpace) -> Tensor:
    """Index of each factor of each joint, (joints, most gates of one), padded past the end.

    The factors are one minus each gate of all groups, and then each gate.
    """
    first, starts = 0, {}
    for group, (choices, options) in space.gate_shapes.items():
        starts[group], first = first, first + choices * options
    rows = []
    for joint in space.joint_keys():
        shift = first if joint.when == "all" else 0
        places = [
            starts[group] + choice * space.gate_shapes[group][1] + option for group, choice, option in joint.gates
        ]
        rows.append(torch.tensor(places) + shift)
    padding = 2 * first
    return (
        nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding) if rows else torch.empty(0, 0).long()
    )
