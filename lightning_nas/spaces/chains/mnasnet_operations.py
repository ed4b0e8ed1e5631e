"""Layers of MnasNet's search space (Tan et al., CVPR 2019, arXiv:1807.11626)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from lightning_nas.ops.blocks import MBConv, SqueezeExcite, conv_bn

convolution = partial(conv_bn, eps=1e-3)
""":func:`conv_bn` with 1e-3 in the batch norm."""

EXPANSIONS = {"sep_conv": 1, "mbconv3": 3, "mbconv6": 6}
OPS = ("conv", *EXPANSIONS)
SKIPS = ("none", "identity", "pool")


class MnasConv(MBConv):
    """:class:`MBConv` with ReLU; ``squeeze`` channels of a :class:`SqueezeExcite` after the depthwise, 0 for none."""

    convolution: Callable[..., nn.Sequential] = staticmethod(convolution)
    gate: type[nn.Module] = nn.Sigmoid

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        expansion: int,
        stride: int = 1,
        residual: bool = False,
        squeeze: int = 0,
    ) -> None:
        shape = {"kernel": kernel, "expansion": expansion, "stride": stride}
        super().__init__(in_channels, out_channels, **shape, residual=residual)
        if squeeze:
            self.depthwise.add_module("excite", SqueezeExcite(in_channels * expansion, squeeze, gate=self.gate))


class LayerKind(NamedTuple):
    """Options chosen for a layer; all layers of a block are of one kind.

    Attributes:
        op: one of :data:`OPS`.
        kernel: size of the convolution that is not 1x1.
        ratio: channels of the squeeze-and-excitation as a share of the layer's input; 0 for none.
        skip: one of :data:`SKIPS`.
    """

    op: str
    kernel: int
    ratio: float
    skip: str

    def __str__(self) -> str:
        return f"{self.op}_k{self.kernel}_se{self.ratio:g}_{self.skip}"


def standing(skip: str, in_channels: int, out_channels: int, stride: int) -> str:
    """Return the skip connection of a layer of this shape: "none" where tensors cannot be added.

    >>> standing("pool", 8, 8, 2), standing("identity", 8, 8, 2), standing("pool", 8, 16, 1)
    ('pool', 'none', 'none')
    """
    fits = in_channels == out_channels and (stride == 1 or skip == "pool")
    return skip if fits else "none"


class MnasLayer(nn.Module):
    """Operation with an optional skip connection: the input, or its average pool of size 3 and the layer's stride.

    The pool needs equal channels, the identity also stride 1; otherwise there is no skip connection. Input
    (N, in_channels, H, W), output (N, out_channels, ceil(H/stride), ceil(W/stride)).

    >>> import torch
    >>> tuple(MnasLayer(8, 8, 2, LayerKind("mbconv3", 5, 0.25, "pool"))(torch.zeros(1, 8, 7, 7)).shape)
    (1, 8, 4, 4)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kind: LayerKind) -> None:
        super().__init__()
        squeeze = max(1, int(in_channels * kind.ratio)) if kind.ratio else 0
        if kind.op == "conv":
            self.op: nn.Module = convolution(in_channels, out_channels, kind.kernel, stride)
            if squeeze:
                self.op.add_module("excite", SqueezeExcite(out_channels, squeeze))
        else:
            self.op = MnasConv(
                in_channels,
                out_channels,
                kernel=kind.kernel,
                expansion=EXPANSIONS[kind.op],
                stride=stride,
                squeeze=squeeze,
            )
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        skips: dict[str, nn.Module | None] = {"none": None, "identity": nn.Identity(), "pool": pool}
        self.skip = skips[standing(kind.skip, in_channels, out_channels, stride)]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y if self.skip is None else y + self.skip(x)
