r"""The search space of MnasNet (Tan et al., CVPR 2019, arXiv:1807.11626): factorised, hierarchical.

A chain of blocks; all layers of a block are alike, and each block chooses on its own: operation, kernel, squeeze and
excitation, skip, and, relative to MobileNetV2's, the number of channels and of layers. Five blocks of 432 choices give
:math:`432^5 = 15{,}045{,}919{,}506{,}432` architectures. Before them stands a separable convolution, after them an
inverted residual block, as in both networks that were published.

Differs from the paper: it does not say where the skips stand, what a "pooling" skip is, and where squeeze and
excitation goes without a depthwise convolution: here see
:class:`~lightning_nas.spaces.chains.mnasnet_operations.MnasLayer`. The published
networks have one block each whose channels are no multiple of MobileNetV2's that the paper lists: theirs are the
reference in the zoo. Batch norms forget as PyTorch's do (0.1 a batch, the paper's 0.01), so that short trainings can
be scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import networkx as nx
from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ranges import Stages, Stem, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.chains.mnasnet_operations import OPS, SKIPS, LayerKind, MnasLayer, convolution, standing
from lightning_nas.spaces.chains.networks import ChainNetwork
from lightning_nas.spaces.chains.shapes import Shape, shapes
from lightning_nas.spaces.chains.space import SMALLEST, Frame
from lightning_nas.spaces.sides import ImageSize, Size, by, pair, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

BLOCKS = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2))
FACTORS = ("0.75", "1.0", "1.25")
QUESTIONS = {
    "op": OPS,
    "kernel": ("3", "5"),
    "squeeze": ("0", "0.25"),
    "skip": SKIPS,
    "filters": FACTORS,
    "layers": ("-1", "+0", "+1"),
}
MEANINGS = {
    "conv": "convolution",
    "sep_conv": "depthwise separable convolution",
    "mbconv3": "inverted bottleneck, expansion 3",
    "mbconv6": "inverted bottleneck, expansion 6",
    "3": "3x3 kernel",
    "5": "5x5 kernel",
    "0": "no squeeze and excitation",
    "0.25": "squeeze and excitation with a quarter of the channels",
    "none": "no skip connection",
    "identity": "skip connection: the identity",
    "pool": "skip connection: average pooling",
    **{factor: f"{factor} times MobileNetV2's channels" for factor in FACTORS},
    "-1": "one layer fewer than MobileNetV2",
    "+0": "as many layers as MobileNetV2",
    "+1": "one layer more than MobileNetV2",
}
FIRST, LAST = LayerKind("sep_conv", 3, 0, "none"), LayerKind("mbconv6", 3, 0, "none")


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next where that loses more than a tenth.

    >>> [rounded(channels) for channels in (18, 24, 40, 4)]
    [24, 24, 40, 8]
    """
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


class Layer(NamedTuple):
    """Layer of a network: its shape and its options."""

    shape: Shape
    kind: LayerKind

    @property
    def key(self) -> str:
        """Cost key: equal for layers that are alike."""
        channels, out, stride, size = self.shape
        kind = self.kind._replace(skip=standing(self.kind.skip, channels, out, stride))
        return f"{kind} {channels}x{by(size)} -> {out} /{stride}"

    def build(self) -> MnasLayer:
        """Build the layer."""
        return MnasLayer(self.shape.in_channels, self.shape.out_channels, self.shape.stride, self.kind)

    def operation(self) -> Operation:
        """The operation whose cost is measured."""
        return Operation(self.build, (self.shape.in_channels, *pair(self.shape.size)))


class MnasNetSpace(SearchSpace):
    r"""Factorised hierarchical space of MnasNet (Tan et al., CVPR 2019, arXiv:1807.11626, section 4.1).

    A chain of blocks; all layers of a block are alike. Each block takes six decisions, named ``block_1_op``,
    ``_kernel``, ``_squeeze`` (ratio of squeeze and excitation), ``_skip``, ``_filters`` (channels relative to
    MobileNetV2's) and ``_layers`` (layers relative to MobileNetV2's): 432 choices a block, and
    :math:`432^5 \approx 1.5 \cdot 10^{13}` architectures of five blocks. It has no supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper where the paper is silent; see the text of this module.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        stem: (channels, stride) of the first 3x3 convolution.
        first: channels of the separable convolution after it, which is not searched.
        blocks: (channels, layers, stride of the first layer) that the choices of each block are relative to.
        last: channels of the block after them, which is not searched.
        mix: channels of the last 1x1 convolution.
        dropout: probability before the classifier.

    Raises:
        InputError: images below 8 pixels, or a block with fewer than two layers, one of which may be taken away.

    Example:
        >>> space = MnasNetSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('mbconv6')
        ('mnasnet_small', 12, 'inverted bottleneck, expansion 6')
        >>> import torch
        >>> space = MnasNetSpace(image_size=8, in_channels=1, num_classes=10, blocks=[(8, 2, 1)], last=16, mix=32)
        >>> [decision.name for decision in space.decisions][:3]
        ['block_1_op', 'block_1_kernel', 'block_1_squeeze']
        >>> tuple(space.network(space.sample(torch.Generator()))(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={
            "name": "mnasnet_small",
            "stem": (8, 1),
            "first": 8,
            "blocks": ((16, 2, 2), (32, 2, 2)),
            "last": 32,
            "mix": 64,
            "dropout": 0.0,
        },
    )
    def __init__(
        self,
        name: str = "mnasnet",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        stem: Stem = (32, 2),
        first: Width = 16,
        blocks: Stages = BLOCKS,
        last: Width = 320,
        mix: Width = 1280,
        dropout: Probability = 0.2,
    ) -> None:
        size = size_of(image_size)
        if size < SMALLEST:
            raise InputError(f"the space {name!r} needs images of at least {SMALLEST} pixels, got {size}")
        if short := [block for block in blocks if block[1] < 2]:
            raise InputError(f"the space {name!r} needs blocks of at least 2 layers, got {list(short[0])}")
        self.name, self.first, self.blocks, self.last = name, first, tuple(tuple(block) for block in blocks), last
        self.frame = Frame(in_channels, size, num_classes, tuple(stem), mix, dropout, convolution)
        self.input_shape, self.num_classes = (in_channels, *pair(size)), num_classes
        self.decisions = tuple(
            Decision(f"block_{i}_{question}", options)
            for i in range(1, len(blocks) + 1)
            for question, options in QUESTIONS.items()
        )

    def layers(self, architecture: Architecture) -> list[Layer]:
        """Every layer between the stem and the last convolution."""
        options = iter(self.validate(architecture).options)
        stages, kinds = [(self.first, 1, 1)], [FIRST]
        for channels, layers, stride in self.blocks:
            op, kernel, ratio, skip, factor, more = (next(options) for _ in QUESTIONS)
            stages.append((rounded(channels * float(factor)), layers + int(more), stride))
            kinds += [LayerKind(op, int(kernel), float(ratio), skip)] * stages[-1][1]
        made = shapes(self.frame.stem[0], self.frame.size, [*stages, (self.last, 1, 1)])
        return [Layer(*layer) for layer in zip(made, [*kinds, LAST], strict=True)]

    def canonical(self, architecture: Architecture) -> Architecture:
        """Take the first factor that gives the same channels, and no skip where no layer can have one."""
        choices = dict(architecture.choices)
        before = self.first
        for i, (channels, layers, stride) in enumerate(self.blocks, start=1):
            skip, factor = f"block_{i}_skip", f"block_{i}_filters"
            width = rounded(channels * float(choices[factor]))
            choices[factor] = next(f for f in FACTORS if rounded(channels * float(f)) == width)
            if layers + int(choices[f"block_{i}_layers"]) == 1:
                choices[skip] = standing(choices[skip], before, width, stride)
            before = width
        return Architecture.of(self.name, choices)

    def meaning(self, option: str) -> str:
        return MEANINGS.get(option, option)

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> ChainNetwork:
        """First convolution, the layers, 1x1 convolution, pooling, dropout, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        layers = [layer.build() for layer in self.layers(architecture)]
        return ChainNetwork(self.frame.parts(layers, self.last, num_classes))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, the layers, head."""
        frame = self.frame
        nodes = [("input", "x".join(map(str, self.input_shape))), ("stem", f"conv 3x3\n{frame.stem[0]} channels")]
        for i, layer in enumerate(self.layers(architecture)):
            op, kernel, ratio, _ = layer.kind
            label = f"{op} {kernel}x{kernel}{' se' if ratio else ''}\n{layer.shape.out_channels} channels"
            nodes.append((f"layer_{i:02d}", label))
        return chain_graph([*nodes, ("head", f"conv 1x1, pool\n{frame.mix} -> {self.num_classes}")])

    # -- cost ---------------------------------------------------------------------------------------------------

    def _out_size(self) -> Size:
        size = self.frame.size
        for *_, stride in self.blocks:
            size = -(-size // stride)
        return size

    def _fixed(self) -> dict[str, Operation]:
        return self.frame.operations(self.last, self._out_size())

    def _possible(self) -> Iterator[Layer]:
        """Every layer of any architecture."""
        before, size = {self.first}, self.frame.size
        yield Layer(Shape(self.frame.stem[0], self.first, 1, size), FIRST)
        for channels, _, stride in self.blocks:
            widths = {rounded(channels * float(factor)) for factor in FACTORS}
            out = -(-size // stride)
            places = [Shape(a, b, stride, size) for a in sorted(before) for b in sorted(widths)]
            places += [Shape(width, width, 1, out) for width in sorted(widths)]
            for place in places:
                for op, kernel, ratio, skip in product(*(QUESTIONS[q] for q in ("op", "kernel", "squeeze", "skip"))):
                    yield Layer(place, LayerKind(op, int(kernel), float(ratio), skip))
            before, size = widths, out
        for width in sorted(before):
            yield Layer(Shape(width, self.last, 1, size), LAST)

    def operations(self) -> dict[str, Operation]:
        """The fixed parts, and every layer that a block can have."""
        return self._fixed() | {layer.key: layer.operation() for layer in self._possible()}

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The fixed parts and the layers."""
        return (*self._fixed(), *(layer.key for layer in self.layers(architecture)))
