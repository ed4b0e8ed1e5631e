"""What is searched in an elastic mobile network, and the sizes that follow from what is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Literal

from annotated_types import Interval, Len

from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import rounded
from lightning_nas.ranges import Kernel, Side, Width

Activation = Literal["relu", "swish", "hard_swish"]
Sized = Mapping[str, int]
"""The value of every number of a network, by name."""

Share = Annotated[float, Interval(gt=0, le=1)]
Widths = Annotated[Sequence[Width], Len(1, 16)]
Depths = Annotated[Sequence[Annotated[int, Interval(ge=1, le=64)]], Len(1, 64)]
Kernels = Annotated[Sequence[Kernel], Len(1, 8)]
Expansions = Annotated[Sequence[Annotated[int, Interval(ge=1, le=64)]], Len(1, 8)]
Resolutions = Annotated[Sequence[Side | Share], Len(1, 32)]
"""Pixels, or up to 1 shares of the side of the images."""

WIDEN = 6  # channels of the convolution before the pooling, as a multiple of the last stage's
SQUEEZE = 4  # hidden channels of a block for each channel of its squeeze-and-excitation


@dataclass(frozen=True)
class Number:
    """One of several numbers: a width, a depth, a kernel, an expansion, a resolution; with one value it is fixed.

    Attributes:
        name: of the decision.
        values: ascending.
    """

    name: str
    values: tuple[int, ...]

    @property
    def largest(self) -> int:
        """The last value."""
        return self.values[-1]

    @property
    def is_searched(self) -> bool:
        """Whether there is something to decide."""
        return len(self.values) > 1


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a block.

    Attributes:
        in_channels: of its input.
        out_channels: of its output.
        kernel: of the depthwise convolution.
        expansion: hidden channels for each input channel; 1 for no expanding convolution.
        stride: of the depthwise convolution.
        excite: whether it has squeeze-and-excitation.
        activation: of all its convolutions but the last.
        projects: its shortcut pools and projects where shapes differ; else there is none where they do.
        spare: a shortcut that projects has its convolution even where nothing uses it.
    """

    in_channels: int
    out_channels: int
    kernel: int
    expansion: int
    stride: int
    excite: bool
    activation: Activation
    projects: bool
    spare: bool

    @property
    def hidden(self) -> int:
        """Channels of the depthwise convolution."""
        return hidden(self.in_channels, self.expansion)

    @property
    def squeezed(self) -> int:
        """Channels of the squeeze-and-excitation."""
        return squeezed(self.in_channels, self.expansion)

    @property
    def keeps_shape(self) -> bool:
        """Whether input and output have one shape."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def key(self, size: int) -> str:
        """Cost key for images of ``size`` pixels a side."""
        told = f"k{self.kernel}_e{self.expansion} {self.in_channels}x{size}x{size} -> {self.out_channels}"
        marks = [" excite"] * self.excite + [" projects"] * self.projects + [" spare"] * self.spare
        return f"{told} /{self.stride} {self.activation}{''.join(marks)}"


def hidden(in_channels: int, expansion: int) -> int:
    """Channels of a depthwise convolution: the input's times the expansion, a multiple of 8.

    >>> hidden(24, 4), hidden(24, 1)
    (96, 24)
    """
    return rounded(in_channels * expansion) if expansion > 1 else in_channels


def squeezed(in_channels: int, expansion: int) -> int:
    """Channels of a squeeze-and-excitation: a quarter of the hidden ones, a multiple of 8.

    >>> squeezed(24, 4), squeezed(16, 1)
    (24, 8)
    """
    return rounded(hidden(in_channels, expansion) // SQUEEZE)


@dataclass(frozen=True)
class Block:
    """A block of the largest network, with what is searched in it.

    Attributes:
        stage: number of its stage, from 0.
        place: in its stage, from 0.
        reads: width of its input.
        makes: width of its output.
        kernel: of the depthwise convolution.
        expansion: of the input's channels.
        depth: of its stage; the block runs if it is above ``place``.
        stride: of the depthwise convolution.
        excite: whether it has squeeze-and-excitation.
        activation: of its convolutions.
        projects: see :class:`BlockShape`.
        spare: see :class:`BlockShape`.
    """

    stage: int
    place: int
    reads: Number
    makes: Number
    kernel: Number
    expansion: Number
    depth: Number
    stride: int
    excite: bool
    activation: Activation
    projects: bool
    spare: bool

    @property
    def sizes(self) -> tuple[Number, ...]:
        """The numbers that its shape follows."""
        return tuple(dict.fromkeys((self.reads, self.makes, self.kernel, self.expansion)))

    def runs(self, sized: Sized) -> bool:
        """Whether a network has the block."""
        return sized[self.depth.name] > self.place

    def shape(self, sized: Sized) -> BlockShape:
        """Its sizes in a network that has it."""
        return BlockShape(
            sized[self.reads.name],
            sized[self.makes.name],
            sized[self.kernel.name],
            sized[self.expansion.name],
            self.stride,
            self.excite,
            self.activation,
            self.projects,
            self.spare,
        )


@dataclass(frozen=True)
class Form:
    """An elastic network.

    Attributes:
        in_channels: of the images.
        image_size: of the images, which the network resizes.
        num_classes: width of the classifier.
        resolution: sides of the images that it runs at.
        stem: width of the first 3x3 convolution.
        stem_stride: its stride.
        activation: of the convolutions outside the blocks.
        blocks: all of them, in order.
        mix: width of the 1x1 convolution after the pooling.
        dropout: probability before the classifier.
        learned: smaller kernels are learned functions of the centre of larger ones, not the centre itself.
    """

    in_channels: int
    image_size: int
    num_classes: int
    resolution: Number
    stem: Number
    stem_stride: int
    activation: Activation
    blocks: tuple[Block, ...]
    mix: Number
    dropout: float
    learned: bool

    @cached_property
    def numbers(self) -> tuple[Number, ...]:
        """Every number, in the order of the network."""
        found = [self.resolution, self.stem]
        for block in self.blocks:
            found += [block.makes, block.depth, block.kernel, block.expansion]
        return tuple({number.name: number for number in (*found, self.mix)}.values())

    @property
    def last(self) -> Number:
        """Width of the last stage."""
        return self.blocks[-1].makes

    @cached_property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each stage."""
        count = self.blocks[-1].stage + 1
        return tuple(tuple(b for b in self.blocks if b.stage == number) for number in range(count))

    @cached_property
    def largest(self) -> Sized:
        """The largest network."""
        return {number.name: number.largest for number in self.numbers}

    def with_classes(self, num_classes: int) -> Form:
        """The same network for another number of classes."""
        return replace(self, num_classes=num_classes)

    def sides(self, resolution: int) -> list[int]:
        """Pixels of a side of the input of each block, and of the last one's output."""
        found = [-(-resolution // self.stem_stride)]
        for block in self.blocks:
            found.append(-(-found[-1] // block.stride))
        return found


@dataclass(frozen=True)
class Stage:
    """A stage of blocks as it is told: widths, depths, kernels and expansions to choose from.

    Attributes:
        widths: of its blocks' outputs.
        depths: numbers of blocks.
        kernels: of its blocks.
        expansions: of its blocks.
        stride: of its first block.
        excite: whether its blocks have squeeze-and-excitation.
        activation: of its blocks.
    """

    widths: Sequence[int]
    depths: Sequence[int]
    kernels: Sequence[int]
    expansions: Sequence[int]
    stride: int
    excite: bool
    activation: Activation


def blocks_of(
    stages: Sequence[Stage], stem: Number, *, each: bool, projects: bool, spare: bool = False
) -> tuple[Block, ...]:
    """The blocks of some stages.

    Args:
        stages: in order.
        stem: width of the first one's input.
        each: kernel and expansion are decisions of each block, not of a whole stage.
        projects: see :class:`BlockShape`.
        spare: see :class:`BlockShape`.
    """
    found, reads = list[Block](), stem
    for number, stage in enumerate(stages):
        name = f"stage_{number + 1}"
        makes, depth = (Number(f"{name}.{n}", _row(v)) for n, v in (("width", stage.widths), ("depth", stage.depths)))
        for place in range(depth.largest):
            own = f"{name}.block_{place + 1}" if each else name
            kernel, expansion = Number(f"{own}.kernel", _row(stage.kernels)), _row(stage.expansions)
            told = (kernel, Number(f"{own}.expansion", expansion), depth, stage.stride if place == 0 else 1)
            rest = (stage.excite, stage.activation, projects, spare)
            found.append(Block(number, place, reads, makes, *told, *rest))
            reads = makes
    return tuple(found)


def _row(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(set(values)))


def resolution_of(resolutions: Sequence[float], image_size: int) -> Number:
    """The number of pixels of a side, from pixels or shares of the images' side.

    >>> resolution_of([0.75, 1.0], 8), resolution_of([160, 128], 224)
    (Number(name='resolution', values=(6, 8)), Number(name='resolution', values=(128, 160)))
    """
    pixels = {round(side * image_size) if side <= 1 else int(side) for side in resolutions}
    return Number("resolution", tuple(sorted(pixels)))


def check_kernels(kernels: Sequence[int], where: str) -> None:
    """Refuse kernels without a centre.

    Raises:
        InputError: a kernel is even.
    """
    if even := [kernel for kernel in kernels if kernel % 2 == 0]:
        raise InputError(f"{where}: kernel {even[0]} has no centre; legal: odd numbers")
