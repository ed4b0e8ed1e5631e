r"""The search space of single-path one-shot search (Guo et al., ECCV 2020, arXiv:1904.00420): blocks and channels.

A chain of 20 blocks of fixed width and stride, each one of four: ShuffleNet v2's with kernel 3, 5 or 7, or one like
Xception's, so :math:`4^{20} = 1{,}099{,}511{,}627{,}776` architectures. With ``channels`` the width inside each block
is searched too: with the paper's ten factors 0.2, 0.4, ..., 2.0 there are :math:`40^{20}`. The supernet holds the
widest weights and uses the first channels of them.

A block and its width are two decisions and one gate: the cost of a width depends on the block.

Differs from the paper: nothing in the blocks. The authors released no code of the channel search; here widths are
rounded to whole numbers, and blocks and widths are searched together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, cast

from annotated_types import Interval
from pydantic import PositiveInt
from torch import nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.mixed import Choice
from lightning_nas.ranges import Stages, Stem, Width
from lightning_nas.spaces.chains.shapes import shapes
from lightning_nas.spaces.chains.shuffle_operations import KERNELS, XCEPTION, ShuffleBlock, passing, shuffle_block
from lightning_nas.spaces.chains.space import ChainSpace, Frame, SearchedBlock
from lightning_nas.spaces.sides import ImageSize, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

STAGES = ((64, 4, 2), (160, 4, 2), (320, 8, 2), (640, 4, 2))
KINDS = tuple(KERNELS)
_JOIN = "_"  # of a kind and a width


@dataclass(frozen=True)
class ShuffleShape(SearchedBlock):
    """One searched block.

    Attributes:
        channels: factors of its middle width, by name, ascending; the base is half the output.
        affine: batch norms learn scale and shift.
    """

    channels: tuple[tuple[str, float], ...]
    affine: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The kinds; if the width is searched, each kind with each width."""
        if len(self.channels) == 1:
            return KINDS
        return tuple(_JOIN.join((kind, width)) for kind in KINDS for width, _ in self.channels)

    def middle(self, option: str, out_channels: int | None = None) -> int:
        """Channels inside an option with ``out_channels`` output channels."""
        _, _, width = option.partition(_JOIN)
        factor = dict(self.channels)[width] if width else self.channels[0][1]
        return max(1, round((out_channels or self.out_channels) // 2 * factor))

    def build(self, option: str) -> ShuffleBlock:
        return self._block(option, self.in_channels, self.out_channels)

    def _block(self, option: str, in_channels: int, out_channels: int) -> ShuffleBlock:
        middle = self.middle(option, out_channels)
        kind = option.partition(_JOIN)[0]
        return shuffle_block(kind, in_channels, out_channels, middle=middle, stride=self.stride, affine=self.affine)

    def choice(self) -> Choice:
        """Where the supernet mixes the candidates; widths of one kind share the weights of the widest."""
        shape = self.options, self._block, self.in_channels, self.out_channels, self.stride
        return Choice(*shape) if len(self.channels) == 1 else SlicedChoice(*shape, middle=self.middle)


@dataclass(frozen=True)
class SlicedChoice(Choice):
    """A choice between kinds and widths of :class:`ShuffleBlock`, of each kind the widest last.

    Attributes:
        middle: channels inside an option, from its name and output channels.
    """

    middle: Callable[[str, int], int] = field(kw_only=True)

    def operations(self, in_channels: int | None = None, out_channels: int | None = None) -> dict[str, nn.Module]:
        """Fresh options by name; those of one kind share their modules."""
        widths = in_channels or self.in_channels, out_channels or self.out_channels
        widest: dict[str, ShuffleBlock] = {}
        made: dict[str, nn.Module] = {}
        for option in reversed(self.options):
            kind = option.partition(_JOIN)[0]
            if kind not in widest:
                widest[kind] = cast("ShuffleBlock", self.build(option, *widths))
            made[option] = widest[kind].sliced(self.middle(option, widths[1]))
        return {option: made[option] for option in self.options}


class ShuffleNetSpace(ChainSpace):
    r"""Blocks and channels of single-path one-shot search (Guo et al., ECCV 2020, arXiv:1904.00420, section 4).

    A chain of 20 blocks of fixed width and stride. ``k3``, ``k5`` and ``k7`` are ShuffleNet v2's block with that
    kernel, ``xception`` is a block of three separable convolutions: :math:`4^{20} \approx 1.1 \cdot 10^{12}`
    architectures. With several factors in ``channels`` the width inside each block is searched too (``width_01``,
    option ``w60`` is 60 % of the base width); the paper's ten factors give :math:`40^{20}`. The supernet holds the
    widest weights and uses their first channels; a block and its width are two decisions and one gate.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper: nothing in the blocks. The authors released no code of the channel search; here widths are
    rounded to whole numbers, and blocks and widths are searched together.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier, which has no bias.
        stem: (channels, stride) of the first 3x3 convolution.
        stages: (channels, blocks, stride of the first block) of each stage.
        mix: channels of the last 1x1 convolution.
        dropout: probability before the classifier.
        channels: factors of the width inside a block, the base being half its output; more than one are searched.
        affine: batch norms learn scale and shift, as in a stand-alone network; in a search they do not.

    Raises:
        InputError: images below 8 pixels, a stage whose width leaves nothing for the main branch, or factors that are
            not positive and at least a hundredth apart.

    Example:
        >>> space = ShuffleNetSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('xception')
        ('spos_shufflenet_small', 8, 'Xception-like block: three 3x3 separable convolutions')
        >>> import torch
        >>> sizes = {"image_size": 8, "in_channels": 1, "num_classes": 10, "stem": (8, 1), "stages": [(16, 1, 2)]}
        >>> space = ShuffleNetSpace("toy", **sizes, channels=(0.5, 1.0))
        >>> [decision.options for decision in space.decisions]
        [('k3', 'k5', 'k7', 'xception'), ('w50', 'w100')]
        >>> a = space.validate({"block_01": "k5", "width_01": "w50"})
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={
            "name": "spos_shufflenet_small",
            "stem": (16, 1),
            "stages": ((32, 2, 1), (64, 2, 2)),
            "mix": 128,
            "dropout": 0.0,
            "channels": (0.6, 1.0, 1.4),
        },
    )
    def __init__(
        self,
        name: str = "spos_shufflenet",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        stem: Stem = (16, 2),
        stages: Stages = STAGES,
        mix: Width = 1024,
        dropout: Probability = 0.1,
        channels: Sequence[Annotated[float, Interval(gt=0, le=16)]] = (1.0,),
        affine: bool = False,
    ) -> None:
        convolution = partial(conv_bn, affine=affine)
        frame = Frame(in_channels, size_of(image_size), num_classes, tuple(stem), mix, dropout, convolution, bias=False)
        factors = tuple((f"w{round(100 * factor)}", factor) for factor in sorted(channels))
        if len(dict(factors)) != len(channels) or not factors or factors[0][1] < 0.01:
            raise InputError(f"the space {name!r} needs factors of 0.01 or more, each once; got channels={channels}")
        blocks = [ShuffleShape(*shape, factors, affine) for shape in shapes(stem[0], frame.size, stages)]
        if lost := [b for b in blocks if b.in_channels < 2 or b.out_channels <= passing(b.in_channels, b.stride)]:
            widths = f"{lost[0].in_channels} -> {lost[0].out_channels}"
            raise InputError(f"the space {name!r} needs wider stages: nothing is left for the main branch of {widths}")
        super().__init__(name, frame, blocks)
        self._stages, self._channels, self._affine = stages, tuple(channels), affine
        if len(channels) > 1:
            self.decisions = tuple(decision for block in self.decisions for decision in _both(block, factors))

    def meaning(self, option: str) -> str:
        kind, _, width = option.partition("w")
        if width.isdigit():
            return f"{width} % of the base width"
        if kind == XCEPTION:
            return "Xception-like block: three 3x3 separable convolutions"
        return f"ShuffleNet v2 block, {KERNELS[kind]}x{KERNELS[kind]} kernel" if kind in KERNELS else option

    def evaluation(self) -> ShuffleNetSpace:
        """Return the space of the same networks with batch norms that learn scale and shift."""
        if self._affine:
            return self
        sizes = {key: getattr(self.frame, key) for key in ("image_size", "in_channels", "num_classes")}
        shape = {key: getattr(self.frame, key) for key in ("stem", "mix", "dropout")}
        return ShuffleNetSpace(self.name, **sizes, **shape, stages=self._stages, channels=self._channels, affine=True)

    def _chosen(self, architecture: Architecture) -> tuple[str, ...]:
        options, decisions = self.validate(architecture).options, len(self.decisions) // len(self.blocks)
        return tuple(_JOIN.join(options[i : i + decisions]) for i in range(0, len(options), decisions))

    def _architecture(self, chosen: Sequence[str]) -> Architecture:
        options = [part for option in chosen for part in option.split(_JOIN)]
        return Architecture(self.name, tuple((d.name, o) for d, o in zip(self.decisions, options, strict=True)))


def _both(block: Decision, factors: Sequence[tuple[str, float]]) -> tuple[Decision, Decision]:
    """The decisions on a block: its kind and its width."""
    width = block.name.replace("block", "width")
    return Decision(block.name, KINDS), Decision(width, tuple(name for name, _ in factors))
