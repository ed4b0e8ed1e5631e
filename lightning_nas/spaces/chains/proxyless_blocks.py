"""MobileNetV2's blocks with searched kernel and expansion: the options of ProxylessNAS and MdeNAS."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lightning_nas.ops.blocks import MBConv, Zero
from lightning_nas.ops.mixed import Choice
from lightning_nas.spaces.base import Keys
from lightning_nas.spaces.chains.space import SearchedBlock

ZERO = "zero"


def mb_options(*expansions: int) -> dict[str, tuple[int, int]]:
    """Kernel and expansion by the name of the option.

    >>> mb_options(3)
    {'k3_e3': (3, 3), 'k5_e3': (5, 3), 'k7_e3': (7, 3)}
    """
    return {f"k{k}_e{e}": (k, e) for e in expansions for k in (3, 5, 7)}


ALL = mb_options(1, 3, 6)


@dataclass(frozen=True)
class MBBlock(SearchedBlock):
    """Searched block with a shortcut where it keeps its shape; its options are all of ``ALL`` unless overridden."""

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(ALL)

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.in_channels == self.out_channels

    def build(self, option: str) -> nn.Module:
        """Build an option, with its shortcut."""
        if option == ZERO:
            return nn.Identity()
        return self._block(option, self.in_channels, self.out_channels)

    def _block(self, option: str, in_channels: int, out_channels: int, residual: bool = True) -> MBConv:
        kernel, expansion = ALL[option]
        shape = {"kernel": kernel, "expansion": expansion, "stride": self.stride}
        return MBConv(in_channels, out_channels, **shape, residual=residual)

    def choice(self) -> Choice:
        """Describe the choice that the supernet mixes; the shortcut is not part of it."""

        def build(option: str, in_channels: int, out_channels: int) -> nn.Module:
            if option == ZERO:
                return Zero()
            return self._block(option, in_channels, out_channels, residual=False)

        return Choice(self.options, build, self.in_channels, self.out_channels, self.stride)

    def keys(self, option: str) -> Keys:
        """Cost keys: equal for blocks of equal shape, none for zero."""
        return () if option == ZERO else super().keys(option)
