"""The search space of AttentiveNAS (Wang et al., CVPR 2021, arXiv:2011.09011): elastic MobileNetV3 with swish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Len
from pydantic import PositiveInt

from lightning_nas.ranges import Kernel, Side, Width
from lightning_nas.spaces.elastic.shapes import (
    Depths,
    Expansions,
    Form,
    Kernels,
    Number,
    Resolutions,
    Stage,
    Widths,
    blocks_of,
    check_kernels,
    resolution_of,
)
from lightning_nas.spaces.elastic.space import ElasticSpace
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

AttentiveStages = Annotated[Sequence[tuple[Widths, Depths, Kernels, Expansions, Kernel, bool]], Len(1, 16)]
"""(widths, depths, kernels, expansions, stride of the first block, squeeze-and-excitation) of each stage."""

STAGES = (
    ((16, 24), (1, 2), (3, 5), (1,), 1, False),
    ((24, 32), (3, 4, 5), (3, 5), (4, 5, 6), 2, False),
    ((32, 40), (3, 4, 5, 6), (3, 5), (4, 5, 6), 2, True),
    ((64, 72), (3, 4, 5, 6), (3, 5), (4, 5, 6), 2, False),
    ((112, 120, 128), (3, 4, 5, 6, 7, 8), (3, 5), (4, 5, 6), 1, True),
    ((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (3, 5), (6,), 2, True),
    ((216, 224), (1, 2), (3, 5), (6,), 1, True),
)


class AttentiveNASSpace(ElasticSpace):
    r"""Elastic MobileNetV3 of AttentiveNAS (Wang et al., CVPR 2021, arXiv:2011.09011, section 4 and table 1).

    Seven stages of inverted bottlenecks with swish; width, depth, kernel and expansion of each stage are searched, and
    the widths of the first and last convolution and the resolution of the images. Smaller networks have the first
    channels, the first blocks of each stage and the centre of kernels of the largest. A shortcut whose shapes differ
    averages 2x2 pixels and projects by a 1x1 convolution.

    Networks take images (N, C, H, W), which they resize to their resolution (bicubic), and give logits
    (N, num_classes).

    Differs from the authors' code (facebookresearch/AttentiveNAS, c4c16f1): batch norms begin with one, where theirs
    begin with zero at the end of blocks, and keep running statistics; blocks are not dropped at random.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        resolutions: sides at which networks run, in pixels, or up to 1 as shares of ``image_size``.
        stem: widths of the first 3x3 convolution.
        stem_stride: its stride.
        stages: (widths, depths, kernels, expansions, stride of the first block, squeeze-and-excitation) of each stage.
        mix: widths of the 1x1 convolution after the pooling.
        dropout: probability before the classifier; 0.2 in the authors' training.
        spare_shortcuts: every shortcut has its convolution, as in the authors' networks, also where shapes agree and
            nothing uses it; such a convolution is frozen. It counts in parameters and costs nothing else.

    Raises:
        InputError: a kernel is even, or resolutions are below 4 pixels.

    Example:
        >>> space = AttentiveNASSpace()
        >>> len(space.decisions), space.decisions[0].options
        (28, ('192', '224', '256', '288'))
        >>> space = AttentiveNASSpace(input_shape=(1, 8, 8), num_classes=10)
        >>> str(space.smallest)
        '6 8 8 1 3 16 1 3 3 16 1 3 3 64'
    """

    @sized_by_images(
        small={
            "name": "attentive_nas_small",
            "resolutions": (0.75, 1.0),
            "stem": (8, 16),
            "stem_stride": 1,
            "stages": (
                ((8, 16), (1, 2), (3, 5), (1,), 1, False),
                ((16, 24), (1, 2), (3, 5), (3, 4), 2, True),
                ((16, 24), (1, 2), (3, 5), (3, 4), 2, True),
            ),
            "mix": (64, 96),
            "spare_shortcuts": False,
        },
    )
    def __init__(
        self,
        name: str = "attentive_nas",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        resolutions: Resolutions = (192, 224, 256, 288),
        stem: Widths = (16, 24),
        stem_stride: Kernel = 2,
        stages: AttentiveStages = STAGES,
        mix: Widths = (1792, 1984),
        dropout: Probability = 0.0,
        spare_shortcuts: bool = True,
    ) -> None:
        for number, (_, _, kernels, *_) in enumerate(stages, start=1):
            check_kernels(kernels, f"stages: stage {number}")
        first = Number("stem.width", tuple(sorted(set(stem))))
        told = [Stage(*stage, "swish") for stage in stages]
        form = Form(
            in_channels,
            image_size,
            num_classes,
            resolution_of(resolutions, image_size),
            first,
            stem_stride,
            "swish",
            blocks_of(told, first, each=False, projects=True, spare=spare_shortcuts),
            Number("mix.width", tuple(sorted(set(mix)))),
            dropout,
            learned=False,
        )
        super().__init__(name, form)
