"""Blocks of ShuffleNet v2 (arXiv:1807.11164) that single-path one-shot search chooses from (arXiv:1904.00420).

The middle channels of a block can be a slice of a wider block's, whose weights and statistics it shares.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.ops.blocks import conv_bn

XCEPTION = "xception"
KERNELS = {"k3": 3, "k5": 5, "k7": 7, XCEPTION: 3}


class ShuffleBlock(nn.Module):
    """ShuffleNet v2 block: half of the channels pass unchanged, the other half run through a branch.

    The halves are interleaved in the input. With a projection (stride 2) both branches see all channels. Input (N,
    in_channels, H, W), output (N, out_channels, ceil(H/stride), ceil(W/stride)), the passed or projected channels
    first.

    Args:
        main: depthwise and 1x1 convolutions with batch norms, the main branch.
        project: module of the other branch; None halves the input.
        middle: channels inside ``main``; the first ones are used.
    """

    def __init__(self, main: nn.Sequential, project: nn.Module | None, middle: int) -> None:
        super().__init__()
        self.main, self.project, self.middle = main, project, middle

    def sliced(self, middle: int) -> ShuffleBlock:
        """Return a narrower block on the same modules."""
        return ShuffleBlock(self.main, self.project, middle)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = (x[:, ::2], x[:, 1::2]) if self.project is None else (self.project(x), x)
        for number, stage in enumerate(self.main, start=1):
            x = _first(cast("nn.Sequential", stage), x, None if number == len(self.main) else self.middle)
        return torch.cat([kept, x], 1)

    def extra_repr(self) -> str:
        return f"middle={self.middle}"


def shuffle_block(
    kind: str, in_channels: int, out_channels: int, *, middle: int, stride: int = 1, affine: bool = True
) -> ShuffleBlock:
    """A fresh block.

    Args:
        kind: of :data:`KERNELS`: 1x1, depthwise of that kernel, 1x1; or "xception", three times depthwise and 1x1.
        in_channels: at least 2, and fewer than ``out_channels`` with stride 2.
        out_channels: of both branches together.
        middle: channels inside the main branch.
        stride: 1 or 2.
        affine: batch norms learn scale and shift.

    >>> tuple(shuffle_block("k5", 8, 24, middle=12, stride=2)(torch.zeros(1, 8, 9, 9)).shape)
    (1, 24, 5, 5)
    """
    kernel, branch = KERNELS[kind], in_channels // 2 if stride == 1 else in_channels
    outputs = out_channels - passing(in_channels, stride)

    def pointwise(before: int, after: int) -> nn.Module:
        return conv_bn(before, after, affine=affine)

    def depthwise(channels: int, stride: int = 1) -> nn.Module:
        return conv_bn(channels, channels, kernel, stride, channels, relu=False, affine=affine)

    if kind == XCEPTION:
        main = [depthwise(branch, stride), pointwise(branch, middle), depthwise(middle), pointwise(middle, middle)]
        main += [depthwise(middle), pointwise(middle, outputs)]
    else:
        main = [pointwise(branch, middle), depthwise(middle, stride), pointwise(middle, outputs)]
    project = nn.Sequential(depthwise(in_channels, stride), pointwise(in_channels, in_channels))
    return ShuffleBlock(nn.Sequential(*main), project if stride > 1 else None, middle)


def passing(in_channels: int, stride: int) -> int:
    """Count the channels of a block's output that do not come from its main branch.

    >>> passing(8, stride=1), passing(8, stride=2)
    (4, 8)
    """
    return in_channels - in_channels // 2 if stride == 1 else in_channels


def _first(stage: nn.Sequential, x: Tensor, width: int | None) -> Tensor:
    """The first ``width`` channels (all: None) of what :func:`conv_bn` gives, fed the first channels that it takes.

    A depthwise convolution gives as many as it is fed. Statistics of fewer channels than there are, are those of this
    process alone, even where batch norms are synchronised.
    """
    conv, norm = cast("nn.Conv2d", stage.conv), cast("nn.BatchNorm2d", stage.norm)
    fed, depthwise = x.shape[1], conv.kernel_size != (1, 1)
    width = fed if depthwise else width or conv.out_channels
    if (fed, width) == (conv.in_channels, conv.out_channels):
        whole: Tensor = stage(x)
        return whole
    weight = conv.weight[:width] if depthwise else conv.weight[:width, :fed]
    y = F.conv2d(x, weight, None, conv.stride, conv.padding, 1, width if depthwise else 1)
    y = _first_norm(norm, y)
    return y if depthwise else y.relu_()


def _first_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm of the first channels: their statistics are updated in place."""
    mean, var, weight, bias = (
        None if value is None else value[: x.shape[1]]
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    momentum = norm.momentum
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1 / int(norm.num_batches_tracked) if momentum is None else momentum
    return F.batch_norm(x, mean, var, weight, bias, norm.training or mean is None, momentum or 0.0, norm.eps)
