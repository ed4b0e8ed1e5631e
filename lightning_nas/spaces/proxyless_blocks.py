"""The blocks that ProxylessNAS chooses from, and the chains made of them (:mod:`lightning_nas.spaces.proxyless`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import MBConv, Zero, initialize
from lightning_nas.ops.mixed import Choice
from lightning_nas.spaces.base import Keys, Operation, Supernet
from lightning_nas.spaces.gates import Gates

BLOCKS = {f"k{k}_e{e}": (k, e) for e in (3, 6) for k in (3, 5, 7)}  # kernel, expansion
ZERO = "zero"
# by group of gates: blocks that keep their shape, and those that do not and cannot be left out
GROUPS = {"blocks": (*BLOCKS, ZERO), "first_blocks": tuple(BLOCKS)}


@dataclass(frozen=True)
class Block:
    """Shape of one searched block: (in_channels, size, size) in, out_channels out."""

    in_channels: int
    out_channels: int
    stride: int
    size: int

    @property
    def group(self) -> str:
        """The group of gates it belongs to."""
        return "blocks" if self.stride == 1 and self.in_channels == self.out_channels else "first_blocks"

    @property
    def options(self) -> tuple[str, ...]:
        """What it can be."""
        return GROUPS[self.group]

    @property
    def out_size(self) -> int:
        """Height and width of what it gives."""
        return -(-self.size // self.stride)

    def build(self, option: str) -> nn.Module:
        """A fresh candidate, with its shortcut."""
        if option == ZERO:
            return nn.Identity()
        return self._block(option, self.in_channels, self.out_channels)

    def _block(self, option: str, in_channels: int, out_channels: int, residual: bool = True) -> MBConv:
        kernel, expansion = BLOCKS[option]
        shape = {"kernel": kernel, "expansion": expansion, "stride": self.stride}
        return MBConv(in_channels, out_channels, **shape, residual=residual)

    def choice(self) -> Choice:
        """Where the supernet mixes the candidates; the shortcut is not part of it."""

        def build(option: str, in_channels: int, out_channels: int) -> nn.Module:
            if option == ZERO:
                return Zero()
            return self._block(option, in_channels, out_channels, residual=False)

        return Choice(self.options, build, self.in_channels, self.out_channels, self.stride)

    def keys(self, option: str) -> Keys:
        """Cost keys: equal for blocks of equal shape, none for zero."""
        if option == ZERO:
            return ()
        return (f"{option} {self.in_channels}x{self.size}x{self.size} -> {self.out_channels} /{self.stride}",)

    def published_key(self, kernel: int, expansion: int) -> str:
        """The name of a block of this shape in the authors' latency tables."""
        size, out, skips = self.size, self.out_size, int(self.group == "blocks")
        shape = f"input:{size}x{size}x{self.in_channels}-output:{out}x{out}x{self.out_channels}"
        return f"expanded_conv-{shape}-expand:{expansion}-kernel:{kernel}-stride:{self.stride}-idskip:{skips}"

    def operations(self) -> dict[str, Operation]:
        """What can be run here, by cost key."""
        shape = (self.in_channels, self.size, self.size)
        return {self.keys(option)[0]: Operation(partial(self.build, option), shape) for option in BLOCKS}


class Parts(NamedTuple):
    """All parts of a network, in order."""

    stem: nn.Module
    first: nn.Module
    blocks: nn.ModuleList
    mix: nn.Module
    classifier: nn.Module


class ProxylessNetwork(nn.Module):
    """A chain of blocks. Images (N, C, H, W) in, logits (N, num_classes) out; works in channels-last memory."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.stem, self.first, self.blocks, self.mix, self.classifier = parts
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.classifier(self.mix(x))
        return logits


class ProxylessSupernet(Supernet):
    """The same chain with mixed candidates in every block, whose shortcuts stand beside the mixture."""

    def __init__(self, parts: Parts, groups: Sequence[str]) -> None:
        super().__init__()
        self.stem, self.first, self.blocks, self.mix, self.classifier = parts
        self.groups = tuple(groups)
        initialize(self)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each block's candidates by its row of ``gates``."""
        x = self.first(self.stem(x.contiguous(memory_format=torch.channels_last)))
        rows = {group: zip(m, gates.active[group], strict=True) for group, m in gates.values.items()}
        for block, group in zip(self.blocks, self.groups, strict=True):
            y = block(x, *next(rows[group]))
            x = x + y if group == "blocks" else y
        logits: Tensor = self.classifier(self.mix(x))
        return logits
