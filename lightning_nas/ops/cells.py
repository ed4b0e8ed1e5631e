"""Operations of the DARTS cell (Liu et al., ICLR 2019, arXiv:1806.09055), and other modules of cell networks.

Every convolution is without bias and comes as ReLU, convolution, batch norm. Every operation keeps the number of
channels and takes (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride)).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.ops.blocks import Zero

OPTIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The searched operations, in the order of the paper's architecture parameters."""

POOLS = ("max_pool_3x3", "avg_pool_3x3")

FOREIGN = ("sep_conv_7x7", "conv_7x1_1x7")
"""Operations of other papers' cells that DARTS' network can hold."""


class SeparableConv(nn.Sequential):
    """ReLU, depthwise k x k (dilated if asked), 1x1 to ``out_channels`` (as many unless given), batch norm."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        *,
        out_channels: int | None = None,
        affine: bool = True,
    ) -> None:
        padding, out_channels = dilation * (kernel // 2), out_channels or channels
        depthwise = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation=dilation, groups=channels, bias=False
        )
        super().__init__(
            OrderedDict(
                relu=nn.ReLU(),
                depthwise=depthwise,
                pointwise=nn.Conv2d(channels, out_channels, 1, bias=False),
                norm=nn.BatchNorm2d(out_channels, affine=affine),
            )
        )


class FactorizedReduction(nn.Module):
    """Factorised reduction to half the size: ReLU, two 1x1 convolutions of stride 2 one pixel apart, batch norm.

    Each convolution gives half of ``out_channels``; the second gives one more of an odd number. Images of odd sizes
    are padded with zeros. With ``relu=False`` it begins with the convolutions, as in ENAS.

    >>> tuple(FactorizedReduction(4, 6)(torch.zeros(1, 4, 7, 8)).shape)
    (1, 6, 4, 4)
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        if self.relu:
            x = x.relu()
        height, width = x.shape[2:]
        moved = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        y: Tensor = self.norm(torch.cat([self.even(x), self.odd(moved)], 1))
        return y


class DropPath(nn.Module):
    """Drop-path (arXiv:1605.07648): zeroes whole samples in training, and scales the others to keep the mean.

    Draws from torch's global generator, as dropout does. The drop probability is ``share * probability``; a callback
    may change ``probability`` at any time.

    >>> drop = DropPath()
    >>> drop.probability = 0.5
    >>> sorted(set(drop(torch.ones(64, 1, 2, 2)).flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.probability, self.share = 0.0, share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.share * self.probability
        drawn = torch.rand(len(x), *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device)
        return x * (drawn < keep).to(x.dtype) / keep


def auxiliary_head(channels: int, num_classes: int, *, stride: int, last_norm: bool, kernel: int = 2) -> nn.Sequential:
    """Build the auxiliary classifier: average pool 5, 1x1 to 128, k x k to 768, linear.

    The pool must make its input k x k.

    Args:
        channels: channels of the input.
        num_classes: width of the classifier.
        stride: stride of the pool, 3 for CIFAR (8x8) and 2 for ImageNet (7x7).
        last_norm: with a batch norm after the k x k convolution, as for CIFAR; the authors' ImageNet form has none.
        kernel: k, 2 in DARTS.
    """
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, stride, count_include_pad=False),
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(inplace=True),
        nn.Conv2d(128, 768, kernel, bias=False),
        nn.BatchNorm2d(768) if last_norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(768, num_classes),
    )


def operation(option: str, channels: int, stride: int, *, affine: bool = True, pool_norm: bool = False) -> nn.Module:
    """Build an operation by name.

    Args:
        option: one of :data:`OPTIONS` or :data:`FOREIGN`.
        channels: channels of input and output.
        stride: 1 or 2.
        affine: batch norms learn scale and shift, as in stand-alone networks. If False, as in a search, pools have a
            batch norm too, so that all operations have one scale.
        pool_norm: pools always have a batch norm, which learns if ``affine``.

    >>> operation("skip_connect", 4, 1)
    Identity()
    """
    made = _MAKE[option](channels, stride, affine)
    if option in POOLS and (pool_norm or not affine):
        return nn.Sequential(OrderedDict(pool=made, norm=nn.BatchNorm2d(channels, affine=affine)))
    return made


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels, affine=affine)


def _separable(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    def make(channels: int, stride: int, affine: bool) -> nn.Module:
        first = SeparableConv(channels, kernel, stride, affine=affine)
        return nn.Sequential(first, SeparableConv(channels, kernel, affine=affine))

    return make


def _crossed(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            relu=nn.ReLU(),
            row=nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
            column=nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
            norm=nn.BatchNorm2d(channels, affine=affine),
        )
    )


_MAKE: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda _, stride, __: Zero(stride),
    "max_pool_3x3": lambda _, stride, __: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda _, stride, __: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "skip_connect": _skip,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": lambda c, stride, affine: SeparableConv(c, 3, stride, 2, affine=affine),
    "dil_conv_5x5": lambda c, stride, affine: SeparableConv(c, 5, stride, 2, affine=affine),
    "sep_conv_7x7": _separable(7),
    "conv_7x1_1x7": _crossed,
}


class Concatenate(nn.Module):
    """Concatenation of states, some of them halved first.

    Args:
        halvings: modules that halve some of the states, by the number of the state.
    """

    def __init__(self, halvings: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.halvings = nn.ModuleDict({str(j): halving for j, halving in halvings.items()})

    def forward(self, states: Mapping[int, Tensor]) -> Tensor:
        parts = [self.halvings[str(j)](x) if str(j) in self.halvings else x for j, x in states.items()]
        return torch.cat(parts, 1)


def pooled_classifier(
    channels: int, num_classes: int, *, dropout: float, relu: bool, bias: bool = False
) -> nn.Sequential:
    """Build a classifier: ReLU (if ``relu``), average pooling, dropout, linear layer."""
    return nn.Sequential(
        nn.ReLU() if relu else nn.Identity(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels, num_classes, bias=bias),
    )
