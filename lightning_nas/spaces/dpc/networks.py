"""Networks with a dense prediction cell (arXiv:1809.04184): backbone, cell on its features, classifier of pixels.

Sizes follow DeepLab's rule: a layer of stride s makes n pixels int((n - 1) / s + 1) = ceil(n / s).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from lightning_nas.ops.blocks import conv_bn, initialize

FEATURES = "features"
"""Name of the backbone's features as the input of a branch."""

_STRIDES = (2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)  # of MobileNet-v2's layers before the last
_MOBILE = 320  # channels of the last of them


@dataclass(frozen=True)
class Branch:
    """Options chosen for a branch.

    Attributes:
        operation: "conv_1x1", "atrous_H_W" with the two rates, or "pool_H_W" with the two sides of the grid.
        source: number of the branch that it works on, from 1; 0 for the features.
    """

    operation: str
    source: int

    def build(self, in_channels: int, out_channels: int, multiplier: int = 1) -> nn.Module:
        """The module. (N, in_channels, H, W) in, (N, out_channels, H, W) out.

        Args:
            in_channels: of the input.
            out_channels: of the output.
            multiplier: of the rates: 16 over the output stride.
        """
        kind, *numbers = self.operation.split("_")
        if kind == "conv":
            return conv_bn(in_channels, out_channels)
        sizes = int(numbers[0]), int(numbers[1])
        if kind == "pool":
            return PyramidPooling(in_channels, out_channels, sizes)
        return atrous(in_channels, out_channels, (sizes[0] * multiplier, sizes[1] * multiplier))


def atrous(in_channels: int, out_channels: int, rate: tuple[int, int]) -> nn.Sequential:
    """Depthwise 3x3 convolution with holes, batch norm, ReLU; 1x1 convolution, batch norm, ReLU; "same" padding.

    >>> atrous(8, 4, (6, 3))(torch.zeros(2, 8, 5, 9)).shape
    torch.Size([2, 4, 5, 9])
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        depthwise=nn.Conv2d(in_channels, in_channels, 3, padding=rate, dilation=rate, groups=in_channels, bias=False),
        norm=nn.BatchNorm2d(in_channels),
        relu=nn.ReLU(inplace=True),
        pointwise=conv_bn(in_channels, out_channels),
    )
    return nn.Sequential(layers)


def window(size: int, grid: int) -> int:
    """Side of the pooling window of a grid on features of one side ``size``: int((size - 1) / grid + 1).

    On features of a crop of c pixels at output stride s, c - 1 a multiple of s, this is DeepLab's
    int((c - 1) / (s * grid) + 1).

    >>> [window(33, grid) for grid in (1, 2, 4, 8)], window(17, 1)
    ([33, 17, 9, 5], 17)
    """
    return (size - 1) // grid + 1


class PyramidPooling(nn.Module):
    """Average pooling, 1x1 convolution with batch norm and ReLU, and a bilinear resize back (corners aligned).

    Pooling has stride 1 and no padding, as in the authors' code, so a grid of g gives n - window(n, g) + 1 values; a
    grid of 1 is global pooling. The paper speaks of the average in each cell of the grid.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.pointwise = conv_bn(in_channels, out_channels)

    def extra_repr(self) -> str:
        return f"grid={self.grid}"

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pooled = F.avg_pool2d(x, (window(height, self.grid[0]), window(width, self.grid[1])), 1)
        return F.interpolate(self.pointwise(pooled), (height, width), mode="bilinear", align_corners=True)


class DenseCell(nn.Module):
    """The branches of a cell, concatenated. (N, C, H, W) in, (N, branches * width, H, W) out.

    Args:
        branches: each works on the features or on an earlier branch.
        in_channels: C, of the features.
        width: channels of each branch.
        multiplier: of the rates.
    """

    def __init__(self, branches: Sequence[Branch], in_channels: int, width: int, multiplier: int = 1) -> None:
        super().__init__()
        self.sources = [branch.source for branch in branches]
        self.branches = nn.ModuleList(
            branch.build(width if branch.source else in_channels, width, multiplier) for branch in branches
        )

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for source, branch in zip(self.sources, self.branches, strict=True):
            tensors.append(branch(tensors[source]))
        return torch.cat(tensors[1:], 1)


class SegmentationNetwork(nn.Module):
    """Backbone, dense prediction cell, 1x1 projection with batch norm and ReLU, dropout, 1x1 classifier.

    Images (N, C, H, W) in, logits (N, num_classes, h, w) out, h and w at the output stride.
    """

    def __init__(
        self, backbone: nn.Module, cell: nn.Module, project: nn.Module, classifier: nn.Module, dropout: float
    ) -> None:
        super().__init__()
        self.backbone, self.cell, self.project, self.classifier = backbone, cell, project, classifier
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.classifier(self.dropout(self.project(self.cell(features))))
        return logits


def backbone(name: str, in_channels: int, width: int, output_stride: int) -> nn.Sequential:
    """Layers that make features of images.

    Args:
        name: "mobilenet_v2", torchvision's layers up to the one of 320 channels; or "small", three 3x3 convolutions
            with batch norm and ReLU, of ``width`` / 2, ``width`` and 2 ``width`` channels.
        in_channels: of the images.
        width: of the branches.
        output_stride: pixels of an image for one of the features: 8 or 16 of MobileNet-v2, whose later layers have
            stride 1 and convolutions with holes instead (as in DeepLab's code); 1, 2, 4 or 8 of the small one.
    """
    if name == "small":
        channels, made, stride = (in_channels, max(1, width // 2), width, 2 * width), list[nn.Module](), 1
        for before, after in pairwise(channels):
            step = 2 if stride < output_stride else 1
            stride *= step
            made.append(conv_bn(before, after, 3, step))
        return nn.Sequential(*made)
    layers = cast("list[nn.Module]", list(mobilenet_v2().features))[:-1]
    if in_channels != 3:
        layers[0] = conv_bn(in_channels, 32, 3, 2, activation=nn.ReLU6)
    stride = rate = 1
    for layer, step in zip(layers, _STRIDES, strict=True):
        holes = rate
        if stride == output_stride:
            rate *= step
        stride *= step if stride < output_stride else 1
        for convolution in (module for module in layer.modules() if isinstance(module, nn.Conv2d)):
            if convolution.kernel_size == (3, 3) and convolution.groups > 1:
                convolution.stride = (1, 1) if rate > 1 else convolution.stride
                convolution.dilation = convolution.padding = (holes, holes)
    return nn.Sequential(*layers)


def features_of(name: str, width: int) -> int:
    """Channels of the features of :func:`backbone`.

    >>> features_of("mobilenet_v2", 256), features_of("small", 32)
    (320, 64)
    """
    return _MOBILE if name == "mobilenet_v2" else 2 * width
