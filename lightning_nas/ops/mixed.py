"""How a supernet mixes its options: the reference form, easy to read, the oracle of the fused forms."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class MixedOp(nn.ModuleDict):
    """A weighted sum of operations on one input: ``sum_i gate_i * op_i(x)``.

    Args:
        operations: the options by name, in the order of the gates.
    """

    def __init__(self, operations: Mapping[str, nn.Module]) -> None:
        super().__init__(operations)
        self.names = tuple(operations)

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        """Mix the options.

        Args:
            x: input of every option.
            gates: (options,), the weight of each.
            active: the options to run; the others are not computed, whatever their gate.
        """
        mixed: Tensor = gates[active[0]].to(x.dtype) * self[self.names[active[0]]](x)
        for i in active[1:]:
            mixed = mixed + gates[i].to(x.dtype) * self[self.names[i]](x)
        return mixed
