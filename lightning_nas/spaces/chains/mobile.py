r"""The mobile space of MdeNAS (Zheng et al., ICCV 2019, arXiv:1905.07529): ProxylessNAS' networks, searched again.

A backbone gives the blocks, their widths and strides: those of a network that ProxylessNAS found, without the blocks
left out there. Each block, the first included, takes kernel 3, 5 or 7 and expansion 1, 3 or 6: :math:`9^{14}`
architectures of the GPU backbone, :math:`9^{20}` of the CPU's.

Differs from the paper: nothing in the networks. The authors published no supernet; here it is that of ProxylessNAS,
in which a block's shortcut is not part of the mixture.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import PositiveInt

from lightning_nas.errors import InputError, shown
from lightning_nas.ops.blocks import conv_bn6
from lightning_nas.ranges import Width
from lightning_nas.spaces.chains.proxyless_blocks import MBBlock
from lightning_nas.spaces.chains.shapes import shapes
from lightning_nas.spaces.chains.space import ChainSpace, Frame
from lightning_nas.spaces.meanings import block_meaning
from lightning_nas.spaces.sides import ImageSize, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class Backbone(NamedTuple):
    """(channels, stride) of the stem; (channels, blocks, stride of the first) of each stage; the last convolution."""

    stem: tuple[int, int]
    stages: tuple[tuple[int, int, int], ...]
    mix: int


_GPU = ((24, 1, 1), (32, 1, 2), (56, 2, 2), (112, 2, 2), (128, 3, 1), (256, 4, 2), (432, 1, 1))
_CPU = ((24, 1, 1), (32, 4, 2), (48, 4, 2), (88, 2, 2), (104, 4, 1), (216, 4, 2), (360, 1, 1))
BACKBONES = {
    "gpu": Backbone((40, 2), _GPU, 1728),
    "cpu": Backbone((40, 2), _CPU, 1432),
    "small": Backbone((16, 1), ((16, 1, 1), (24, 2, 2), (32, 1, 2)), 128),
}


class MobileSpace(ChainSpace):
    """Kernel and expansion of every block of a mobile network: MdeNAS (Zheng et al., ICCV 2019, arXiv:1905.07529).

    A backbone fixes the number, widths and strides of the blocks; each block takes one of nine options. ``k5_e6`` is
    an inverted bottleneck with kernel 5 (3, 5 or 7) and expansion 6 (1, 3 or 6). The GPU backbone has 14 blocks,
    :math:`9^{14}` architectures; the CPU backbone 20, :math:`9^{20}`.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper: nothing in the networks. The authors published no supernet; this one is ProxylessNAS',
    in which a block's shortcut is not part of the mixture.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        backbone: "gpu" or "cpu", which ProxylessNAS found for these; "small", for images of 8 to 64 pixels.
        dropout: probability before the classifier.
        fused: run the supernet's mixed blocks in the fused form (same numbers, same state, faster).

    Raises:
        InputError: images below 8 pixels, or an unknown backbone.

    Example:
        >>> space = MobileSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('k7_e6')
        ('mobile_small', 4, '7x7 kernel, expansion 6')
        >>> space = MobileSpace()
        >>> len(space.decisions), space.decisions[0].options[:4]
        (14, ('k3_e1', 'k5_e1', 'k7_e1', 'k3_e3'))
    """

    @sized_by_images(small={"name": "mobile_small", "backbone": "small"})
    def __init__(
        self,
        name: str = "mobile",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        backbone: str = "gpu",
        dropout: Probability = 0.0,
        fused: bool = True,
    ) -> None:
        if backbone not in BACKBONES:
            legal = ", ".join(BACKBONES)
            raise InputError(f"no backbone is called {shown(backbone)} (search_space.backbone=); legal: {legal}")
        stem, stages, mix = BACKBONES[backbone]
        frame = Frame(in_channels, size_of(image_size), num_classes, stem, mix, dropout, conv_bn6)
        blocks = [MBBlock(*shape) for shape in shapes(stem[0], frame.size, stages)]
        super().__init__(name, frame, blocks, fused=fused)

    def meaning(self, option: str) -> str:
        return block_meaning(option)
