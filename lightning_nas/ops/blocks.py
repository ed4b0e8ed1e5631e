"""Convolutions and blocks of stand-alone networks, most of them mobile ones."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    relu: bool = True,
    activation: type[nn.ReLU] | type[nn.ReLU6] = nn.ReLU,
    eps: float = 1e-5,
    affine: bool = True,
) -> nn.Sequential:
    """Convolution without bias, batch norm, and ReLU unless ``relu=False``; "same" padding for odd kernels.

    ``activation`` replaces ReLU; ``eps`` and ``affine`` are those of the batch norm.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out_channels, eps, affine=affine),
    )
    if relu:
        layers["relu"] = activation(inplace=activation is nn.ReLU)  # ReLU6 in place copies its input first
    return nn.Sequential(layers)


def relu_conv_bn(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, affine: bool = True
) -> nn.Sequential:
    """ReLU, convolution without bias, batch norm; "same" padding for odd kernels. The input is not changed."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        relu=nn.ReLU(),
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        norm=nn.BatchNorm2d(out_channels, affine=affine),
    )
    return nn.Sequential(layers)


class ChannelShuffle(nn.Module):
    """Interleave the channels of ``groups`` groups (ShuffleNet, arXiv:1707.01083): (g, c) becomes (c, g).

    >>> import torch
    >>> ChannelShuffle(2)(torch.arange(4.0).reshape(1, 4, 1, 1)).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise k x k, 1x1 projection without ReLU; the input is added where shapes agree.

    The block of FBNet (arXiv:1812.03443, figure 3): ``expansion`` multiplies the input channels and its 1x1
    convolution is always present; with ``groups`` > 1 both 1x1 convolutions are grouped and the channels are
    shuffled after the first. Input (N, in_channels, H, W), output (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, expansion: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = conv_bn(in_channels, hidden, groups=groups)
        self.shuffle = ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = conv_bn(hidden, hidden, kernel, stride, groups=hidden)
        self.project = conv_bn(hidden, out_channels, groups=groups, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.shuffle(self.expand(x))))
        return x + y if self.residual else y


def conv_bn6(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu: bool = True
) -> nn.Sequential:
    """:func:`conv_bn` of MobileNetV2's descendants: ReLU6, and epsilon 1e-3 in the batch norm."""
    return conv_bn(in_channels, out_channels, kernel, stride, groups, relu=relu, activation=nn.ReLU6, eps=1e-3)


class MBConv(nn.Module):
    """MobileNetV2's block (arXiv:1801.04381) with any kernel size.

    1x1 expansion (none if ``expansion`` is 1), depthwise k x k, 1x1 projection without ReLU; the input is added where
    shapes agree, unless ``residual=False``. Input (N, in_channels, H, W), output (N, out_channels, ceil(H/stride),
    ceil(W/stride)).
    """

    convolution: Callable[..., nn.Sequential] = staticmethod(conv_bn6)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        expansion: int,
        stride: int = 1,
        residual: bool = True,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = residual and stride == 1 and in_channels == out_channels
        self.expand = self.convolution(in_channels, hidden) if expansion > 1 else nn.Identity()
        self.depthwise = self.convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project = self.convolution(hidden, out_channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class SqueezeExcite(nn.Sequential):
    """Squeeze and excitation: scales each channel by a function of the means of all channels (arXiv:1709.01507).

    Means, 1x1 convolution to ``reduced`` channels, ReLU, 1x1 convolution, sigmoid or another gate; both with bias.
    """

    def __init__(self, channels: int, reduced: int, *, gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__(
            OrderedDict(
                mean=nn.AdaptiveAvgPool2d(1),
                reduce=nn.Conv2d(channels, reduced, 1),
                relu=nn.ReLU(inplace=True),
                expand=nn.Conv2d(reduced, channels, 1),
                gate=gate(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x * gates


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and not more than a tenth below.

    >>> rounded(18.0), rounded(30.0), rounded(3.0)
    (24, 32, 8)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class Zero(nn.Module):
    """No connection: zeros of the shape that other operations of this stride give."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return torch.zeros_like(x)
        n, c, h, w = x.shape
        return x.new_zeros(n, c, -(-h // self.stride), -(-w // self.stride))


def skip(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build the identity where shapes agree, else a strided 1x1 convolution with batch norm and ReLU."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv_bn(in_channels, out_channels, stride=stride)


def initialize(network: nn.Module) -> None:
    """He initialisation by fan-out for convolutions, N(0, 0.01) for linear layers, batch norm 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
