r"""The search space of ProxylessNAS (Cai et al., ICLR 2019, arXiv:1812.00332): MobileNetV2 with searched blocks.

A chain of blocks of fixed width and stride, each with kernel 3, 5 or 7 and expansion 3 or 6. A block that keeps its
shape may also be ``zero``: nothing but its identity shortcut is left. The paper's 21 blocks, 15 of which keep their
shape, give :math:`6^6 \cdot 7^{15} = 221{,}502{,}229{,}807{,}900{,}608` architectures.

Differs from the paper: nothing in the blocks; weights begin with :func:`~lightning_nas.ops.blocks.initialize`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from lightning_nas.ops.blocks import conv_bn6
from lightning_nas.ranges import Stages, Stem, Width
from lightning_nas.spaces.chains.proxyless_blocks import ZERO, MBBlock, mb_options
from lightning_nas.spaces.chains.shapes import shapes
from lightning_nas.spaces.chains.space import ChainSpace, Frame
from lightning_nas.spaces.meanings import block_meaning
from lightning_nas.spaces.sides import ImageSize, by, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
BLOCKS = mb_options(3, 6)


@dataclass(frozen=True)
class ProxylessBlock(MBBlock):
    """A searched block, which can be left out if it keeps its shape."""

    @property
    def group(self) -> str:
        return "blocks" if self.residual else "first_blocks"

    @property
    def options(self) -> tuple[str, ...]:
        return (*BLOCKS, ZERO) if self.residual else tuple(BLOCKS)

    def published_key(self, kernel: int, expansion: int) -> str:
        """The name of a block of this shape in the authors' latency tables."""
        size, out, skips = self.size, self.out_size, int(self.residual)
        shape = f"input:{by(size)}x{self.in_channels}-output:{by(out)}x{self.out_channels}"
        return f"expanded_conv-{shape}-expand:{expansion}-kernel:{kernel}-stride:{self.stride}-idskip:{skips}"


class ProxylessNASSpace(ChainSpace):
    r"""MobileNetV2 with searched blocks: ProxylessNAS (Cai et al., ICLR 2019, arXiv:1812.00332, section 4.2).

    A chain of blocks of fixed width and stride, one decision each. ``k5_e6`` is an inverted bottleneck with kernel 5
    (3, 5 or 7) and expansion 6 (3 or 6); ``zero`` leaves nothing but the shortcut, for the blocks that keep their
    shape. The paper's 21 blocks, 15 of which keep their shape, give
    :math:`6^6 \cdot 7^{15} \approx 2.2 \cdot 10^{17}` architectures.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper: nothing in the blocks; initial weights are those of
    :func:`~lightning_nas.ops.blocks.initialize`.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        stem: (channels, stride) of the first 3x3 convolution.
        first: channels of the first block, which is not searched: kernel 3, expansion 1.
        stages: (channels, blocks, stride of the first block) of each stage.
        mix: channels of the last 1x1 convolution.
        dropout: probability before the classifier.
        fused: run the supernet's mixed blocks in the fused form (same numbers, same state, faster).

    Raises:
        InputError: images below 8 pixels.

    Example:
        >>> space = ProxylessNASSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('zero')
        ('proxyless_small', 4, 'no block: the shortcut alone')
        >>> import torch
        >>> space = ProxylessNASSpace("toy", image_size=8, in_channels=1, stem=(8, 1), first=8, stages=[(8, 2, 2)])
        >>> a = space.validate({"block_01": "k3_e3", "block_02": "zero"})
        >>> tuple(space.network(a, num_classes=5)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 5)
    """

    @sized_by_images(
        small={
            "name": "proxyless_small",
            "stem": (16, 1),
            "first": 16,
            "stages": ((16, 2, 1), (32, 2, 2)),
            "mix": 128,
        },
    )
    def __init__(
        self,
        name: str = "proxyless",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        stem: Stem = (32, 2),
        first: Width = 16,
        stages: Stages = STAGES,
        mix: Width = 1280,
        dropout: Probability = 0.0,
        fused: bool = True,
    ) -> None:
        frame = Frame(in_channels, size_of(image_size), num_classes, tuple(stem), mix, dropout, conv_bn6, first)
        self._searched = tuple(ProxylessBlock(*shape) for shape in shapes(first, frame.size, stages))
        super().__init__(name, frame, self._searched, fused=fused)

    def meaning(self, option: str) -> str:
        return "no block: the shortcut alone" if option == ZERO else block_meaning(option)

    def published_keys(self) -> dict[str, str]:
        """Cost keys as the authors' latency tables spell them, by ours."""
        frame, blocks = self.frame, self._searched
        size, out, image, stem = frame.size, blocks[-1].out_size, frame.image_size, frame.stem[0]
        fixed = (
            f"Conv-input:{by(image)}x{frame.in_channels}-output:{by(size)}x{stem}",
            ProxylessBlock(stem, blocks[0].in_channels, 1, size).published_key(3, 1),
            f"Conv_1-input:{by(out)}x{blocks[-1].out_channels}-output:{by(out)}x{frame.mix}",
            f"Logits-input:{by(out)}x{frame.mix}-output:{self.num_classes}",
        )
        searched = {b.keys(o)[0]: b.published_key(*shape) for b in blocks for o, shape in BLOCKS.items()}
        return dict(zip(self._fixed(), fixed, strict=True)) | searched
