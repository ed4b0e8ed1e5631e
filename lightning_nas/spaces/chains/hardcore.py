r"""The search space of HardCoRe-NAS (Nayman et al., ICML 2021, arXiv:2102.11646): MobileNetV3 with elastic stages.

Five stages of two to four inverted bottlenecks; kernel, expansion and squeeze-and-excitation of each are searched.

Differs from the paper: the authors decide the depth of a stage and the blocks apart, and share weights between the
expansions of a block. Here the third and fourth block of a stage may be left out one by one, which is the same set of
networks (some of them twice), and each option of a block has weights of its own in the supernet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from lightning_nas.ops.blocks import MBConv, conv_bn, rounded
from lightning_nas.ranges import Stages, Stem, Width
from lightning_nas.spaces.base import Keys
from lightning_nas.spaces.chains.mnasnet_operations import MnasConv
from lightning_nas.spaces.chains.networks import Parts
from lightning_nas.spaces.chains.proxyless_blocks import ZERO, MBBlock
from lightning_nas.spaces.chains.shapes import shapes
from lightning_nas.spaces.chains.space import ChainSpace, Frame
from lightning_nas.spaces.meanings import block_meaning
from lightning_nas.spaces.sides import ImageSize, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, classes_of, sized_by_images

STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (112, 4, 1), (192, 4, 2))
BLOCKS = {
    f"k{kernel}_e{expansion}{'_se' if excite else ''}": (kernel, expansion, excite)
    for expansion in (3, 4, 6)
    for kernel in (3, 5)
    for excite in (False, True)
}
LEAST = 2  # blocks of a stage that are always there


def swish_bn(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu: bool = True
) -> nn.Sequential:
    """:func:`~lightning_nas.ops.blocks.conv_bn` with hard swish in place of ReLU."""
    made = conv_bn(in_channels, out_channels, kernel, stride, groups, relu=False)
    if relu:
        made.add_module("swish", nn.Hardswish(inplace=True))
    return made


class ReLUConv(MnasConv):
    """MnasNet's block with the usual batch norm, and a hard sigmoid in its squeeze-and-excitation."""

    convolution: Callable[..., nn.Sequential] = staticmethod(conv_bn)
    gate = nn.Hardsigmoid


class SwishConv(ReLUConv):
    """:class:`ReLUConv` with hard swish in place of ReLU."""

    convolution: Callable[..., nn.Sequential] = staticmethod(swish_bn)


@dataclass(frozen=True)
class HardCoReBlock(MBBlock):
    """Searched block with a shortcut where it keeps its shape; squeeze-and-excitation has a quarter of its channels.

    Attributes:
        optional: whether it may be left out.
        swish: whether its activation is hard swish, not ReLU.
    """

    optional: bool
    swish: bool

    @property
    def options(self) -> tuple[str, ...]:
        return (*BLOCKS, ZERO) if self.optional else tuple(BLOCKS)

    @property
    def group(self) -> str:
        return "optional" if self.optional else "blocks"

    def _block(self, option: str, in_channels: int, out_channels: int, residual: bool = True) -> MBConv:
        kernel, expansion, excite = BLOCKS[option]
        return (SwishConv if self.swish else ReLUConv)(
            in_channels,
            out_channels,
            kernel=kernel,
            expansion=expansion,
            stride=self.stride,
            residual=residual,
            squeeze=rounded(in_channels * expansion / 4) if excite else 0,
        )

    def keys(self, option: str) -> Keys:
        """Cost keys: equal for blocks of equal shape and activation, none for a block that is left out."""
        return tuple(f"{key}{' swish' if self.swish else ''}" for key in super().keys(option))


@dataclass(frozen=True, kw_only=True)
class HardCoReFrame(Frame):
    """Parts of MobileNetV3 around the blocks.

    Attributes:
        features: channels of a 1x1 convolution after the pooling.
    """

    features: int

    def parts(self, blocks: Sequence[nn.Module], last: int, num_classes: int | None = None) -> Parts:
        assert self.first is not None
        classifier = OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1),
            features=nn.Conv2d(self.mix, self.features, 1),
            swish=nn.Hardswish(inplace=True),
            flat=nn.Flatten(),
            dropout=nn.Dropout(self.dropout),
            linear=nn.Linear(self.features, classes_of(num_classes, self.num_classes)),
        )
        return Parts(
            stem=self.convolution(self.in_channels, self.stem[0], 3, self.stem[1]),
            first=ReLUConv(self.stem[0], self.first, kernel=3, expansion=1, residual=True),
            blocks=nn.ModuleList(blocks),
            mix=self.convolution(last, self.mix),
            classifier=nn.Sequential(classifier),
        )


class HardCoReSpace(ChainSpace):
    r"""MobileNetV3 with stages of elastic depth: HardCoRe-NAS (Nayman et al., ICML 2021, arXiv:2102.11646, section 3).

    Each block is an inverted bottleneck with kernel 3 or 5, expansion 3, 4 or 6, and with or without
    squeeze-and-excitation: ``k5_e6_se``. The third and the fourth block of a stage may be left out, ``zero``. So a
    stage of two to four blocks is one of :math:`12^2 + 12^3 + 12^4` in the paper; of the :math:`(12 \cdot 13)^{10}`
    architectures here some are one network, since "zero, k3_e3" and "k3_e3, zero" are.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are in two groups, "blocks"
    for those that stay and "optional" for the others.

    Differs from the paper: depth is not a decision of its own, and in the supernet each option of a block has weights
    of its own, where the authors' share them between expansions. Hard swish begins in the third stage, as in the
    authors' networks.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        stem: (channels, stride) of the first 3x3 convolution.
        first: channels of the first block, which is not searched: kernel 3, expansion 1.
        stages: (channels, most blocks, stride of the first block) of each stage.
        relu_stages: stages with ReLU; those after them have hard swish.
        mix: channels of the last 1x1 convolution before the pooling.
        features: channels of the 1x1 convolution after the pooling.
        dropout: probability before the classifier.

    Raises:
        InputError: images below 8 pixels.

    Example:
        >>> space = HardCoReSpace()
        >>> len(space.decisions), space.decisions[1].options[:3], space.meaning("k3_e4_se")
        (20, ('k3_e3', 'k3_e3_se', 'k5_e3'), '3x3 kernel, expansion 4, squeeze-and-excitation')
        >>> space = HardCoReSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, [len(decision.options) for decision in space.decisions]
        ('hardcore_small', [12, 12, 12, 12, 13])
    """

    @sized_by_images(
        small={
            "name": "hardcore_small",
            "stem": (16, 1),
            "first": 16,
            "stages": ((16, 2, 2), (24, 3, 2)),
            "relu_stages": 1,
            "mix": 96,
            "features": 128,
        },
    )
    def __init__(
        self,
        name: str = "hardcore",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        stem: Stem = (32, 2),
        first: Width = 16,
        stages: Stages = STAGES,
        relu_stages: NonNegativeInt = 2,
        mix: Width = 960,
        features: Width = 1280,
        dropout: Probability = 0.0,
    ) -> None:
        around = (in_channels, size_of(image_size), num_classes, tuple(stem), mix, dropout, swish_bn, first)
        frame, blocks = HardCoReFrame(*around, features=features), list[HardCoReBlock]()
        channels, size = first, frame.size
        for number, stage in enumerate(stages):
            for place, shape in enumerate(shapes(channels, size, [stage])):
                blocks.append(HardCoReBlock(*shape, optional=place >= LEAST, swish=number >= relu_stages))
            channels, size = blocks[-1].out_channels, blocks[-1].out_size
        super().__init__(name, frame, blocks)

    def meaning(self, option: str) -> str:
        if option == ZERO:
            return "no block: the shortcut alone"
        told = block_meaning(option.removesuffix("_se"))
        return f"{told}, squeeze-and-excitation" if option in BLOCKS and option.endswith("_se") else told
