"""Mixed operations of supernets in the reference form, the oracle of the fused forms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Choice:
    """Place in a supernet where options are mixed: the options and their widths.

    Attributes:
        options: names of the options, in the order of the gates.
        build: builds an option from its name, input channels and output channels.
        in_channels: input channels of the options.
        out_channels: output channels of the options.
        stride: stride of every option.
    """

    options: tuple[str, ...]
    build: Callable[[str, int, int], nn.Module]
    in_channels: int
    out_channels: int
    stride: int = 1

    def operations(self, in_channels: int | None = None, out_channels: int | None = None) -> dict[str, nn.Module]:
        """Build all options, by name, with the choice's own widths unless others are given."""
        widths = in_channels or self.in_channels, out_channels or self.out_channels
        return {option: self.build(option, *widths) for option in self.options}


def is_skip(option: str) -> bool:
    """Return whether an option is a skip connection, by its name.

    >>> is_skip("skip_connect"), is_skip("sep_conv_3x3")
    (True, False)
    """
    return option.startswith("skip")


class MixedOp(nn.ModuleDict):
    """Weighted sum of operations on one input: ``sum_i gate_i * op_i(x)``.

    Args:
        operations: the options by name, in the order of the gates.
    """

    def __init__(self, operations: Mapping[str, nn.Module]) -> None:
        super().__init__(operations)
        self.names = tuple(operations)

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        """Compute the weighted sum of the active options.

        Args:
            x: input of every option.
            gates: (options,), the weight of each.
            active: the options to run; the others are not computed, whatever their gate.
        """
        mixed: Tensor = gates[active[0]].to(x.dtype) * self[self.names[active[0]]](x)
        for i in active[1:]:
            mixed = mixed + gates[i].to(x.dtype) * self[self.names[i]](x)
        return mixed


Mix = Callable[[Choice], MixedOp]
"""Makes the module that mixes the options of one choice; methods pass their own to change the supernet."""


def plain(choice: Choice) -> MixedOp:
    """Make the reference form of a choice."""
    return MixedOp(choice.operations())
