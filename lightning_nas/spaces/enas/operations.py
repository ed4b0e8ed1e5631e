"""Operations of ENAS (Pham et al., ICML 2018, arXiv:1802.03268) and other modules of its networks.

Those of the micro space are DARTS' (:mod:`lightning_nas.ops.cells`): ENAS and DARTS have them from NASNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.ops.blocks import conv_bn, relu_conv_bn

MICRO = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "skip_connect")
"""The operations of a micro cell in the order of the paper's code."""

MACRO = ("conv_3x3", "sep_conv_3x3", "conv_5x5", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3")
"""The operations of a macro layer in the order of the paper's code."""


def by_batch(module: nn.Module) -> nn.Module:
    """Make all batch norms of a module use the statistics of the batch, also in evaluation; return the module.

    ENAS' micro search does so, because running statistics cannot fit all paths through a shared weight.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    return module


def pool(option: str) -> nn.Module:
    """A 3x3 pool of stride 1 by name."""
    return nn.MaxPool2d(3, 1, 1) if option == "max_pool_3x3" else nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def branch(option: str, in_channels: int, out_channels: int) -> nn.Module:
    """Build a layer of the searched macro network: 1x1, batch norm, ReLU, then the operation.

    Convolutions are followed by batch norm and ReLU.

    Args:
        option: one of :data:`MACRO`.
        in_channels: of the input.
        out_channels: of the output.
    """
    first = conv_bn(in_channels, out_channels)
    if "pool" in option:
        return nn.Sequential(first, pool(option))
    kernel, separable = int(option[-1]), option.startswith("sep")
    last = conv_bn(out_channels, out_channels, 1 if separable else kernel)
    if not separable:
        return nn.Sequential(first, last)
    depthwise = nn.Conv2d(out_channels, out_channels, kernel, padding=kernel // 2, groups=out_channels, bias=False)
    return nn.Sequential(first, depthwise, last)


def fixed_branch(option: str, in_channels: int, out_channels: int) -> nn.Module:
    """Build a layer of the retrained macro network: ReLU, 1x1, batch norm; ReLU, k x k, batch norm.

    As in the paper's code the convolution is a full one for the options called separable, too. That code has no pools;
    here they are pools.
    """
    first, kernel = relu_conv_bn(in_channels, out_channels), int(option[-1])
    last = pool(option) if "pool" in option else relu_conv_bn(out_channels, out_channels, kernel)
    return nn.Sequential(first, last)


class Combine(nn.Module):
    """Output of a cell from its loose ends: concatenation, ReLU, 1x1 convolution, batch norm.

    The convolution has a part for each state; the parts of the states that are given are used.

    Args:
        channels: channels of each state and of the output.
        states: numbers of the states that can be loose ends.
    """

    def __init__(self, channels: int, states: Sequence[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({str(j): nn.Conv2d(channels, channels, 1, bias=False) for j in states})
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, states: Mapping[int, Tensor]) -> Tensor:
        """(N, channels, H, W) from the loose ends by their number."""
        kernel = torch.cat([self.parts[str(j)].weight for j in states], 1)  # type: ignore[misc]
        y: Tensor = self.norm(F.conv2d(torch.cat(list(states.values()), 1).relu(), kernel))
        return y


class Sum(nn.Module):
    """Sum of tensors of one shape, then batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        y: Tensor = self.norm(reduce(add, tensors))
        return y


class Merge(nn.Module):
    """Concatenation of tensors, ReLU, 1x1 convolution, batch norm."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.project = relu_conv_bn(count * channels, channels)

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        y: Tensor = self.project(torch.cat(list(tensors), 1))
        return y


def enas_auxiliary(channels: int, num_classes: int) -> nn.Sequential:
    """The auxiliary classifier: DARTS' for CIFAR, but padded before its 2x2 convolution, pooled after it, no bias."""
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, 3),
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(inplace=True),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(128, 768, 2, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(768, num_classes, bias=False),
    )
