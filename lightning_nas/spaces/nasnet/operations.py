"""Candidate operations of NASNet (arXiv:1707.07012), AmoebaNet (arXiv:1802.01548) and PNASNet (arXiv:1712.00559).

Each takes (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)). Every convolution is without
bias and comes as ReLU, convolution, batch norm. Where the number of channels changes, a pool is followed by a 1x1
convolution, and a skip is one.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from lightning_nas.ops.blocks import conv_bn, relu_conv_bn
from lightning_nas.ops.cells import SeparableConv

NASNET = (
    "skip_connect",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The 13 operations NASNet searches."""

AMOEBANET = (
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_sep_conv_3x3",
    "narrow_1x7_7x1",
)
"""The 8 operations AmoebaNet searches."""

PNAS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "conv_1x7_7x1",
    "skip_connect",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_conv_3x3",
)
"""The 8 operations PNAS searches."""

ALL = tuple(dict.fromkeys((*NASNET, *AMOEBANET, *PNAS)))
"""Each of them once."""


def operation(option: str, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """A fresh operation by name.

    Args:
        option: one of :data:`ALL`. ``sep_conv``: a separable convolution, twice; ``dil``: with dilation 2;
            ``conv_1xk_kx1``: two convolutions; ``narrow``: they have a quarter of the channels, between 1x1 ones.
        in_channels: of the input.
        out_channels: of the output.
        stride: 1 or 2.

    >>> operation("skip_connect", 4, 4)
    Identity()
    """
    kind, kernel = option.rpartition("_")[0], int(option[-1]) if option[-1].isdigit() else 1
    if kind == "skip":
        same = stride == 1 and in_channels == out_channels
        return nn.Identity() if same else relu_conv_bn(in_channels, out_channels, stride=stride)
    if kind.endswith("pool"):
        return _pool(kind, kernel, in_channels, out_channels, stride)
    if kind == "conv":
        return relu_conv_bn(in_channels, out_channels, kernel, stride)
    if kind == "sep_conv":
        first = SeparableConv(in_channels, kernel, stride, out_channels=out_channels)
        return nn.Sequential(first, SeparableConv(out_channels, kernel))
    if kind == "dil_sep_conv":
        return SeparableConv(in_channels, kernel, stride, 2, out_channels=out_channels)
    if kind == "dil_conv":
        return _conv(in_channels, out_channels, (kernel, kernel), (stride, stride), 2)
    return _crossed(option, in_channels, out_channels, stride)


def _pool(kind: str, kernel: int, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    pool: nn.Module = nn.MaxPool2d(kernel, stride, kernel // 2)
    if kind == "avg_pool":
        pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
    if in_channels == out_channels:
        return pool
    return nn.Sequential(OrderedDict(pool=pool, project=conv_bn(in_channels, out_channels, relu=False)))


def _crossed(option: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A row and a column, alone or between a narrowing and a widening convolution."""
    kind, row, _ = option.split("_")
    kernel, narrow = int(row[-1]), kind == "narrow"
    inner = max(1, out_channels // 4) if narrow else out_channels
    first = _conv(inner if narrow else in_channels, inner, (1, kernel), (1, stride))
    crossed = nn.Sequential(first, _conv(inner, inner, (kernel, 1), (stride, 1)))
    if not narrow:
        return crossed
    return nn.Sequential(relu_conv_bn(in_channels, inner), *crossed, relu_conv_bn(inner, out_channels))


def _conv(
    in_channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: int = 1
) -> nn.Sequential:
    """ReLU, convolution, batch norm; "same" padding."""
    padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=conv, norm=nn.BatchNorm2d(out_channels)))
