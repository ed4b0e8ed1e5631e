"""Blocks of elastic mobile networks: as they stand alone, and as a supernet runs them on slices of the largest.

An elastic module is the stand-alone one in its largest sizes under the same names. It runs on the first channels of its
weights, which are views, and on the centre of its depthwise kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lightning_nas.ops.blocks import SqueezeExcite, conv_bn
from lightning_nas.spaces.elastic.shapes import WIDEN, Activation, BlockShape

ACTIVATIONS: dict[str, type[nn.ReLU] | type[nn.SiLU] | type[nn.Hardswish]] = {
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "hard_swish": nn.Hardswish,
}


def active_conv(
    in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, activation: Activation
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation."""
    made = conv_bn(in_channels, out_channels, kernel, stride, groups, relu=False)
    made.add_module("active", ACTIVATIONS[activation](inplace=True))
    return made


class MobileBlock(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation after the depthwise convolution, and a shortcut.

    The shortcut is the input where shapes agree. Where they do not there is none, or with ``shape.projects`` the input
    is averaged over 2x2 pixels and projected by a 1x1 convolution, as far as shapes ask for it. Input (N, in_channels,
    H, W), output (N, out_channels, ceil(H/stride), ceil(W/stride)).

    Args:
        shape: its sizes.

    Example:
        >>> block = MobileBlock(BlockShape(16, 24, 3, 4, 2, True, "swish", True, False))
        >>> tuple(block(torch.zeros(2, 16, 7, 7)).shape)
        (2, 24, 4, 4)
    """

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.shape = shape
        narrow, wide, active = shape.in_channels, shape.hidden, shape.activation
        self.expand = active_conv(narrow, wide, 1, 1, 1, active) if shape.expansion > 1 else nn.Identity()
        self.depthwise = active_conv(wide, wide, shape.kernel, shape.stride, wide, active)
        if shape.excite:
            self.depthwise.add_module("excite", SqueezeExcite(wide, shape.squeezed, gate=nn.Hardsigmoid))
        self.project = conv_bn(wide, shape.out_channels, relu=False)
        self.shortcut = self._shortcut(used=narrow != shape.out_channels)

    def _shortcut(self, *, used: bool) -> nn.Module | None:
        """The convolution of the shortcut, which does not learn where nothing uses it."""
        shape = self.shape
        if not shape.projects or not (used or shape.spare):
            return None
        made = nn.Conv2d(shape.in_channels, shape.out_channels, 1, bias=False)
        return made if used else made.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        if self.shape.projects:
            x = pooled(x, self.shape.stride)
            if self.shape.in_channels != self.shape.out_channels:
                assert self.shortcut is not None
                x = self.shortcut(x)
            return y + x
        return y + x if self.shape.keeps_shape else y


class MobileHead(nn.Module):
    """1x1 convolution, pooling, 1x1 convolution without batch norm, dropout, classifier.

    Input (N, channels, H, W), output (N, num_classes).

    Args:
        channels: of its input.
        features: of the second convolution.
        num_classes: width of the classifier.
        dropout: probability before the classifier.
        activation: after both convolutions.
    """

    def __init__(self, channels: int, features: int, num_classes: int, dropout: float, activation: Activation) -> None:
        super().__init__()
        self.final = active_conv(channels, channels * WIDEN, 1, 1, 1, activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Conv2d(channels * WIDEN, features, 1, bias=False)
        self.active = ACTIVATIONS[activation](inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.active(self.mix(self.pool(self.final(x)))).flatten(1)
        logits: Tensor = self.linear(self.dropout(x))
        return logits


def pooled(x: Tensor, stride: int) -> Tensor:
    """Means over squares of ``stride`` pixels; zeros complete odd sides.

    >>> pooled(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]), 2).item()
    4.0
    """
    return F.avg_pool2d(x, stride, padding=x.shape[-1] % 2) if stride > 1 else x


def resized(x: Tensor, side: int) -> Tensor:
    """Square images at another size, bicubic as AttentiveNAS' networks do; of the same size as they are.

    >>> tuple(resized(torch.zeros(1, 3, 8, 8), 6).shape)
    (1, 3, 6, 6)
    """
    return x if x.shape[-1] == side else F.interpolate(x, side, mode="bicubic")


# -- elastic ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixed:
    """Weights of the channels, kernels and shortcuts of several blocks in one; all one where a block has one size.

    Attributes:
        read: (in_channels,) of the input, where weights read it.
        hidden: (hidden,) of the depthwise convolution's output.
        squeezed: (squeezed,) of the squeeze-and-excitation.
        kernels: of each size of kernel.
        passing: (channels,) of the input where it is its own shortcut.
        projected: (in_channels,) of the input of the shortcut's convolution.
    """

    read: Tensor | None
    hidden: Tensor | None
    squeezed: Tensor | None
    kernels: tuple[tuple[int, Tensor], ...]
    passing: Tensor | None
    projected: Tensor | None


def scaled(x: Tensor, weights: Tensor | None) -> Tensor:
    """Channels of (N, C, ...) times weights (C,)."""
    return x if weights is None else x * weights.to(x.dtype).reshape(-1, *[1] * (x.dim() - 2))


def convolved(x: Tensor, conv: Any, channels: int) -> Tensor:
    """A convolution from the first channels to the first ``channels``."""
    weight = conv.weight[:channels, : x.shape[1]]
    bias = None if conv.bias is None else conv.bias[:channels]
    return F.conv2d(x, weight.contiguous(), bias, conv.stride, conv.padding)


def normed(x: Tensor, layers: Any) -> Tensor:
    """The batch norm of the first channels, and the activation if there is one."""
    norm, count = layers.norm, x.shape[1]
    tensors = {name: value[:count] for name, value in _of(norm).items()}
    if type(norm) is nn.BatchNorm2d and norm.momentum is not None:
        mean, var, weight, bias = (tensors[n] for n in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, mean, var, weight, bias, norm.training, norm.momentum, norm.eps)
    else:  # of several processes, or cumulative
        x = functional_call(norm, tensors, x)
    return layers.active(x) if "active" in layers._modules else x


def _of(norm: nn.modules.batchnorm._BatchNorm) -> dict[str, Tensor]:
    return {name: value for name, value in (*norm.named_parameters(), *norm.named_buffers()) if value.dim()}


class ElasticBlock(MobileBlock):
    """A :class:`MobileBlock` of all smaller sizes.

    Args:
        shape: the largest.
        kernels: sizes of the depthwise kernel, ascending; the last is that of ``shape``.
        learned: a smaller kernel is a learned matrix times the centre of the next larger one, the identity at first;
            else it is the centre itself.
        projects: some width of its output differs from that of its input, so the shortcut's convolution is used.
    """

    def __init__(self, shape: BlockShape, kernels: Sequence[int], *, learned: bool, projects: bool) -> None:
        super().__init__(shape)
        self.kernels = tuple(kernels)
        self.shortcut = self._shortcut(used=projects)
        smaller = self.kernels[:-1] if learned else ()
        self.matrices = nn.ParameterDict({f"k{size}": nn.Parameter(torch.eye(size**2)) for size in smaller})

    def kernel(self, channels: int, size: int) -> Tensor:
        """Depthwise kernels (channels, 1, size, size)."""
        conv: Any = self.depthwise.conv
        weight: Tensor = conv.weight[:channels]
        if not len(self.matrices):
            return centre(weight, size)
        for smaller in reversed(self.kernels[:-1]):
            if smaller < size:
                break
            inside = centre(weight, smaller)
            weight = F.linear(inside.flatten(1), self.matrices[f"k{smaller}"]).reshape(inside.shape)
        return weight

    def run(self, x: Tensor, shape: BlockShape, mixed: Mixed | None = None) -> Tensor:
        """Run in some sizes; ``mixed`` weighs the smaller ones in them."""
        y = x if mixed is None else scaled(x, mixed.read)
        if shape.expansion > 1:
            y = normed(convolved(y, self.expand.conv, shape.hidden), self.expand)
        kernel = self.kernel(shape.hidden, shape.kernel) if mixed is None else self._kernel(shape, mixed)
        side = kernel.shape[-1] // 2
        y = F.conv2d(y, kernel.contiguous(), None, shape.stride, side, 1, shape.hidden)
        y = normed(y, self.depthwise)
        if shape.excite:
            y = y * self._excite(y, shape, mixed)
        y = normed(convolved(y if mixed is None else scaled(y, mixed.hidden), self.project.conv, shape.out_channels),
                   self.project)  # fmt: skip
        return self._added(x, y, shape, mixed)

    def _kernel(self, shape: BlockShape, mixed: Mixed) -> Tensor:
        total: Tensor | None = None
        for size, weight in mixed.kernels:
            kernel, more = self.kernel(shape.hidden, size), (shape.kernel - size) // 2
            kernel = weight.to(kernel.dtype) * F.pad(kernel, [more] * 4)
            total = kernel if total is None else total + kernel
        return self.kernel(shape.hidden, shape.kernel) if total is None else total

    def _excite(self, y: Tensor, shape: BlockShape, mixed: Mixed | None) -> Tensor:
        excite: Any = self.depthwise.excite
        means = excite.mean(y)
        means = means if mixed is None else scaled(means, mixed.hidden)
        inner = excite.relu(convolved(means, excite.reduce, shape.squeezed))
        inner = inner if mixed is None else scaled(inner, mixed.squeezed)
        gates: Tensor = excite.gate(convolved(inner, excite.expand, shape.hidden))
        return gates

    def _added(self, x: Tensor, y: Tensor, shape: BlockShape, mixed: Mixed | None) -> Tensor:
        if not shape.projects:
            return y + x if shape.keeps_shape else y
        x = pooled(x, shape.stride)
        if mixed is None or mixed.projected is None:
            assert shape.in_channels == shape.out_channels or self.shortcut is not None
            return y + (x if shape.in_channels == shape.out_channels else convolved(x, self.shortcut, y.shape[1]))
        total = y + convolved(scaled(x, mixed.projected), self.shortcut, y.shape[1])
        if mixed.passing is None:
            return total
        passing = scaled(x[:, : len(mixed.passing)], mixed.passing)
        return total + F.pad(passing, [0, 0, 0, 0, 0, y.shape[1] - passing.shape[1]])


def centre(kernels: Tensor, size: int) -> Tensor:
    """The centre of kernels (..., K, K).

    >>> centre(torch.arange(9.0).reshape(1, 1, 3, 3), 1).item()
    4.0
    """
    rest = (kernels.shape[-1] - size) // 2
    return kernels[..., rest : rest + size, rest : rest + size]


class ElasticHead(MobileHead):
    """A :class:`MobileHead` of all smaller sizes."""

    def run(self, x: Tensor, features: int, read: Tensor | None = None, made: Tensor | None = None) -> Tensor:
        """Run with ``features``; ``read`` (channels,) and ``made`` (features,) weigh what smaller sizes have."""
        wide = x.shape[1] * WIDEN
        y = normed(convolved(scaled(x, read), self.final.conv, wide), self.final)
        y = self.pool(y)
        if read is not None:
            y = scaled(y, read.repeat_interleave(WIDEN))
        y = scaled(self.active(convolved(y, self.mix, features)).flatten(1), made)
        return F.linear(self.dropout(y), self.linear.weight[:, :features].contiguous(), self.linear.bias)
