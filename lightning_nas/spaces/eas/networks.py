"""Plain convolutional networks that EAS grows (Cai et al., AAAI 2018, arXiv:1707.04873)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import conv_bn, initialize
from lightning_nas.spaces.base import Operation

POOL = "pool"


class Layer(NamedTuple):
    """A layer of a network.

    Attributes:
        block: counted from 0; the last one is of fully connected layers.
        width: filters or units.
        kernel: size of the convolution, 0 for a fully connected layer.
    """

    block: int
    width: int
    kernel: int

    @property
    def token(self) -> str:
        """Name that a controller reads.

        >>> Layer(0, 16, 3).token, Layer(4, 256, 0).token
        ('conv-16-3', 'fc-256')
        """
        return f"conv-{self.width}-{self.kernel}" if self.kernel else f"fc-{self.width}"


class Piece(NamedTuple):
    """A layer where it stands: (inputs, size, size) in, ``width`` out; with kernel 0 all inputs are flattened."""

    kernel: int
    inputs: int
    size: int
    width: int

    @property
    def key(self) -> str:
        """Cost key."""
        return f"{f'conv{self.kernel}' if self.kernel else 'fc'} {self.inputs}x{self.size}x{self.size} -> {self.width}"

    def build(self) -> nn.Sequential:
        """Convolution or matrix without bias, batch norm, ReLU."""
        if self.kernel:
            return conv_bn(self.inputs, self.width, self.kernel)
        return nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                linear=nn.Linear(self.inputs * self.size**2, self.width, bias=False),
                norm=nn.BatchNorm1d(self.width),
                relu=nn.ReLU(inplace=True),
            )
        )

    def operation(self) -> Operation:
        """The operation whose cost is measured."""
        return Operation(self.build, (self.inputs, self.size, self.size))


@dataclass(frozen=True)
class PlainForm:
    """Sizes of a network, without its layers.

    Attributes:
        in_channels: channels of the images.
        image_size: height and width of the images.
        pools: size and stride of the pool after each block of convolutions.
        dropout: probabilities after each pool and after each fully connected layer.
    """

    in_channels: int
    image_size: int
    pools: tuple[int, ...]
    dropout: tuple[float, float]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of the input of each block.

        >>> PlainForm(3, 32, (2, 2, 2, 4), (0.3, 0.5)).sizes
        (32, 16, 8, 4, 1)
        """
        sizes = [self.image_size]
        for pool in self.pools:
            sizes.append(math.ceil(sizes[-1] / pool))
        return tuple(sizes)

    def pieces(self, layers: Sequence[Layer]) -> list[Piece]:
        """The layers where they stand."""
        made, inputs, flat = list[Piece](), self.in_channels, False
        for block, width, kernel in layers:
            made.append(Piece(kernel, inputs, 1 if flat else self.sizes[block], width))
            inputs, flat = width, not kernel
        return made

    def after(self, layers: Sequence[Layer], i: int) -> nn.Module:
        """Build the modules after layer i: pool and dropout at the end of a block of convolutions."""
        layer = layers[i]
        if not layer.kernel:
            return nn.Dropout(self.dropout[1])
        if layers[i + 1].block == layer.block:
            return nn.Identity()
        pool = nn.MaxPool2d(self.pools[layer.block], ceil_mode=True)
        return nn.Sequential(pool, nn.Dropout(self.dropout[0]))


class PlainNetwork(nn.Module):
    """Images (N, C, H, W) in, logits (N, num_classes) out; fully connected layers come last, one at least."""

    def __init__(self, form: PlainForm, layers: Sequence[Layer], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(piece.build() for piece in form.pieces(layers))
        self.after = nn.ModuleList(form.after(layers, i) for i in range(len(layers)))
        self.classifier = nn.Linear(layers[-1].width, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        for layer, after in zip(self.layers, self.after, strict=True):
            x = after(layer(x))
        logits: Tensor = self.classifier(x)
        return logits
