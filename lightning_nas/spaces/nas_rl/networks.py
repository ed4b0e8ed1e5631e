"""The image networks of NAS-RL (Zoph and Le, ICLR 2017, arXiv:1611.01578): convolutions with connections to any others.

Tensor 0 is the image, tensor k the output of layer k, counted from 1. Inputs of a layer are concatenated; where their
sizes differ, the smaller ones are padded with zeros at the bottom and on the right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.ops.blocks import initialize

Size = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """Options chosen for a layer.

    Attributes:
        filter: height and width of the filters, odd.
        stride: strides in both directions.
        filters: number of filters.
        inputs: numbers of the input tensors.
    """

    filter: Size
    stride: Size
    filters: int
    inputs: tuple[int, ...]

    def block(self, in_channels: int) -> nn.Sequential:
        """Convolution without bias, batch norm, ReLU; sizes are divided by the stride and rounded up."""
        height, width = self.filter
        padding = (height // 2, width // 2)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(in_channels, self.filters, self.filter, self.stride, padding, bias=False),
            norm=nn.BatchNorm2d(self.filters),
            relu=nn.ReLU(inplace=True),
        )
        return nn.Sequential(layers)


def largest(sizes: Iterable[Size]) -> Size:
    """Find the size that tensors of these sizes are padded to.

    >>> largest([(8, 4), (6, 6)])
    (8, 6)
    """
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)


def output_sizes(layers: Sequence[Layer], image: Size) -> list[Size]:
    """Compute the size of the image and of every layer's output.

    >>> output_sizes([Layer((3, 3), (2, 1), 4, (0,)), Layer((1, 1), (1, 3), 4, (0, 1))], (8, 8))
    [(8, 8), (4, 8), (8, 3)]
    """
    sizes = [image]
    for layer in layers:
        height, width = largest(sizes[j] for j in layer.inputs)
        sizes.append((-(-height // layer.stride[0]), -(-width // layer.stride[1])))
    return sizes


def loose(layers: Sequence[Layer]) -> tuple[int, ...]:
    """List the layers that no other layer works on.

    >>> loose([Layer((1, 1), (1, 1), 4, (0,)), Layer((1, 1), (1, 1), 4, (0,)), Layer((1, 1), (1, 1), 4, (1,))])
    (2, 3)
    """
    taken = {j for layer in layers for j in layer.inputs}
    return tuple(k for k in range(1, len(layers) + 1) if k not in taken)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors, padded with zeros to the largest height and width."""
    height, width = largest((x.shape[2], x.shape[3]) for x in tensors)
    filled = [
        x if x.shape[2:] == (height, width) else F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))
        for x in tensors
    ]
    return torch.cat(filled, 1) if len(filled) > 1 else filled[0]


def classifier(channels: int, num_classes: int, *, bias: bool = True) -> nn.Sequential:
    """Mean over the pixels, linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes, bias))


class ConnectedNetwork(nn.Module):
    """Images (N, C, H, W) in, logits (N, num_classes) out: the classifier sees the outputs that no layer works on.

    Args:
        in_channels: channels of the images.
        layers: options of each layer.
        num_classes: width of the classifier.
    """

    def __init__(self, in_channels: int, layers: Sequence[Layer], num_classes: int) -> None:
        super().__init__()
        self.inputs, self.outputs = tuple(layer.inputs for layer in layers), loose(layers)
        channels = [in_channels, *(layer.filters for layer in layers)]
        self.layers = nn.ModuleList(layer.block(sum(channels[j] for j in layer.inputs)) for layer in layers)
        self.head = classifier(sum(channels[k] for k in self.outputs), num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for inputs, layer in zip(self.inputs, self.layers, strict=True):
            tensors.append(layer(joined([tensors[j] for j in inputs])))
        logits: Tensor = self.head(joined([tensors[k] for k in self.outputs]))
        return logits
