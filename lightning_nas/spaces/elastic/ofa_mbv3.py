"""The MobileNetV3 space of Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import PositiveInt

from lightning_nas.ops.blocks import rounded
from lightning_nas.ranges import Kernel, Side, Width
from lightning_nas.spaces.elastic.shapes import (
    Depths,
    Expansions,
    Form,
    Kernels,
    Number,
    Resolutions,
    Stage,
    blocks_of,
    check_kernels,
    resolution_of,
)
from lightning_nas.spaces.elastic.space import ElasticSpace
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

OFAStages = Annotated[Sequence[tuple[Width, Kernel, bool, Literal["relu", "hard_swish"]]], Len(1, 16)]
"""(width, stride of the first block, squeeze-and-excitation, activation) of each stage."""

STAGES: tuple[tuple[int, int, bool, Literal["relu", "hard_swish"]], ...] = (
    (24, 2, False, "relu"),
    (40, 2, True, "relu"),
    (80, 2, False, "hard_swish"),
    (112, 1, True, "hard_swish"),
    (160, 2, True, "hard_swish"),
)


class OFAMobileNetV3Space(ElasticSpace):
    r"""Elastic MobileNetV3 of Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791, section 3.2).

    The first block is fixed; of each later stage the depth is searched, and of each of its blocks the kernel and the
    expansion, beside the resolution of the images. Smaller networks have the first blocks of each stage and the first
    hidden channels of each block; the kernel of the next smaller size is a learned matrix times the centre of the
    larger one, :math:`K_5 = M_{25 \times 25} \, \mathrm{centre}(K_7)`, the same for all channels of a block. At one
    resolution there are :math:`(9^2 + 9^3 + 9^4)^5 \approx 2 \cdot 10^{19}` networks.

    Networks take images (N, C, H, W), which they resize to their resolution (bicubic), and give logits
    (N, num_classes).

    Differs from the authors' code (mit-han-lab/once-for-all, f03b267): their data loader crops images at the
    resolution of a batch, here the network resizes them.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        resolutions: sides at which networks run, in pixels, or up to 1 as shares of ``image_size``.
        depths: numbers of blocks of every stage.
        kernels: of every block.
        expansions: of every block.
        width_mult: multiplies all widths, which are rounded to multiples of 8; 1.0 and 1.2 in the paper.
        stem: width of the first 3x3 convolution, and of the fixed block after it.
        stem_stride: stride of the first convolution.
        stages: (width, stride of the first block, squeeze-and-excitation, activation) of each stage.
        mix: width of the 1x1 convolution after the pooling.
        dropout: probability before the classifier.

    Raises:
        InputError: a kernel is even, or resolutions are below 4 pixels.

    Example:
        >>> space = OFAMobileNetV3Space()
        >>> len(space.decisions), space.decisions[1].options, space.decisions[2].options
        (46, ('2', '3', '4'), ('3', '5', '7'))
        >>> space = OFAMobileNetV3Space(input_shape=(1, 8, 8), num_classes=10)
        >>> str(space.smallest)
        '6 1 3 3 5 4 1 3 3 5 4'
    """

    @sized_by_images(
        small={
            "name": "ofa_mbv3_small",
            "resolutions": (0.75, 1.0),
            "depths": (1, 2),
            "kernels": (3, 5),
            "expansions": (3, 4),
            "stem": 8,
            "stem_stride": 1,
            "stages": ((16, 2, False, "relu"), (24, 2, True, "hard_swish")),
            "mix": 96,
        },
    )
    def __init__(
        self,
        name: str = "ofa_mbv3",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        resolutions: Resolutions = (128, 160, 192, 224),
        depths: Depths = (2, 3, 4),
        kernels: Kernels = (3, 5, 7),
        expansions: Expansions = (3, 4, 6),
        width_mult: Annotated[float, Interval(gt=0, le=16)] = 1.0,
        stem: Width = 16,
        stem_stride: Kernel = 2,
        stages: OFAStages = STAGES,
        mix: Width = 1280,
        dropout: Probability = 0.1,
    ) -> None:
        check_kernels(kernels, "kernels")

        def wide(channels: int) -> tuple[int]:
            return (rounded(channels * width_mult),)

        first = Number("stem.width", wide(stem))
        fixed = Stage(wide(stem), (1,), (3,), (1,), 1, False, "relu")
        told = [
            Stage(wide(width), depths, kernels, expansions, stride, excite, activation)
            for width, stride, excite, activation in stages
        ]
        form = Form(
            in_channels,
            image_size,
            num_classes,
            resolution_of(resolutions, image_size),
            first,
            stem_stride,
            "hard_swish",
            blocks_of([fixed, *told], first, each=True, projects=False),
            Number("mix.width", wide(mix)),
            dropout,
            learned=True,
        )
        super().__init__(name, form)
