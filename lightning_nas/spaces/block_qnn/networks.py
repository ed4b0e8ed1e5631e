"""Networks of Block-QNN's blocks (arXiv:1708.05552): the same block again and again, with pools between the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import initialize, relu_conv_bn
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.block_qnn.code import LayerCode, loose


class Piece(NamedTuple):
    """Something that is run: a convolution ("conv": ReLU, convolution, batch norm) or a pool of stride 1."""

    kind: str
    kernel: int
    in_channels: int
    out_channels: int
    size: int

    @property
    def key(self) -> str:
        """Cost key."""
        return f"{self.kind}_{self.kernel} {self.in_channels}x{self.size}x{self.size} -> {self.out_channels}"

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        if self.kind != "conv":
            return 0
        return self.in_channels * self.out_channels * (self.kernel * self.size) ** 2

    def build(self) -> nn.Module:
        """A fresh one."""
        if self.kind == "conv":
            return relu_conv_bn(self.in_channels, self.out_channels, self.kernel)
        if self.kind == "max_pool":
            return nn.MaxPool2d(self.kernel, 1, self.kernel // 2)
        return nn.AvgPool2d(self.kernel, 1, self.kernel // 2, count_include_pad=False)

    def operation(self) -> Operation:
        """What it costs is that of this."""
        return Operation(self.build, (self.in_channels, self.size, self.size))


@dataclass(frozen=True)
class BlockPlace:
    """Where a block stands: (in_channels, size, size) in, (width, size, size) out."""

    in_channels: int
    width: int
    size: int

    def to_width(self, channels: int) -> Piece:
        """The 1x1 convolution to the width of the block."""
        return Piece("conv", 1, channels, self.width, self.size)

    def pieces(self, codes: Sequence[LayerCode]) -> tuple[list[Piece | None], Piece | None]:
        """Of each layer what it runs, and what is run at the end of the block; None where nothing is to do.

        Of an add that is what widens its narrower input, of a concatenation what follows it. The end is for more than
        one loose end, and for one that has not the width of the block.
        """
        widths, layers = [self.in_channels], list[Piece | None]()
        for code in codes[:-1]:
            into = [widths[p] for p in code.predecessors]
            piece, out = None, into[0]
            if code.kind == "conv":
                piece, out = Piece("conv", code.kernel, into[0], self.width, self.size), self.width
            elif code.kind in ("max_pool", "avg_pool"):
                piece = Piece(code.kind, code.kernel, into[0], into[0], self.size)
            elif code.kind == "concat":
                piece, out = self.to_width(sum(into)), self.width
            elif code.kind == "add":
                out = max(into)
                piece = Piece("conv", 1, min(into), out, self.size) if min(into) < out else None
            layers.append(piece)
            widths.append(out)
        ends = loose(codes)
        channels = sum(widths[end] for end in ends)
        return layers, self.to_width(channels) if len(ends) > 1 or channels != self.width else None

    def possible(self, longest: int) -> list[Piece]:
        """Every piece of any block of up to ``longest`` layers, the terminal included."""
        widths, size = sorted({self.in_channels, self.width}), self.size
        made = [Piece("conv", k, c, self.width, size) for c in widths for k in (1, 3, 5)]
        made += [Piece(f"{kind}_pool", k, c, c, size) for kind in ("max", "avg") for c in widths for k in (1, 3)]
        if len(widths) > 1:
            made.append(Piece("conv", 1, widths[0], widths[1], size))
        counts = range(longest)
        joined = {a * self.in_channels + b * self.width for a in counts for b in counts if 2 <= a + b < max(longest, 3)}
        return [*made, *(self.to_width(channels) for channels in sorted(joined))]


class Block(nn.Module):
    """One block. (N, in_channels, H, W) in, (N, width, H, W) out."""

    def __init__(self, codes: Sequence[LayerCode], place: BlockPlace) -> None:
        super().__init__()
        self.codes, self.ends = tuple(codes[:-1]), loose(codes)
        layers, output = place.pieces(codes)
        self.layers = nn.ModuleList(piece.build() if piece else nn.Identity() for piece in layers)
        self.output = output.build() if output else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for code, layer in zip(self.codes, self.layers, strict=True):
            into = [tensors[p] for p in code.predecessors]
            if code.kind == "add":
                narrow, wide = sorted(into, key=lambda tensor: tensor.shape[1])
                tensors.append(layer(narrow) + wide)
            else:
                tensors.append(layer(torch.cat(into, 1) if len(into) > 1 else into[0]))
        ends = [tensors[end] for end in self.ends]
        y: Tensor = self.output(torch.cat(ends, 1) if len(ends) > 1 else ends[0])
        return y


class BlockNetwork(nn.Module):
    """Images (N, C, H, W) in, logits (N, num_classes) out."""

    def __init__(self, stem: nn.Module, stages: Sequence[Sequence[nn.Module]], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for i, stage in enumerate(self.stages):
            x = stage(self.pool(x) if i else x)
        logits: Tensor = self.head(x)
        return logits
