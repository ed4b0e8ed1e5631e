r"""The search space of FBNet (Wu et al., CVPR 2019, arXiv:1812.03443, tables 1 and 2).

A chain of layers of fixed width and stride; each layer takes one of nine blocks, so the paper's 22 layers give
:math:`9^{22} = 984{,}770{,}902{,}183{,}611{,}232{,}881` architectures.

Differs from the paper: nothing in the blocks. "skip" is a strided 1x1 convolution with batch norm and ReLU where a
layer changes shape, as in the authors' released models. Expansion 1 keeps its 1x1 convolution, as in the paper's
figure 3 (the authors' later code leaves it out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import networkx as nx
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import InvertedResidual, conv_bn, initialize, skip
from lightning_nas.ops.fused import fused
from lightning_nas.ops.mixed import Choice, Mix, MixedOp, plain
from lightning_nas.ranges import Stages, Stem, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph, chosen_state
from lightning_nas.spaces.chains.shapes import shapes
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.meanings import block_meaning
from lightning_nas.spaces.sides import ImageSize, Size, by, pair, size_of
from lightning_nas.spaces.sizes import InputShape, Probability, classes_of, sized_by_images

BLOCKS: dict[str, dict[str, int]] = {
    "k3_e1": {"kernel": 3, "expansion": 1},
    "k3_e1_g2": {"kernel": 3, "expansion": 1, "groups": 2},
    "k3_e3": {"kernel": 3, "expansion": 3},
    "k3_e6": {"kernel": 3, "expansion": 6},
    "k5_e1": {"kernel": 5, "expansion": 1},
    "k5_e1_g2": {"kernel": 5, "expansion": 1, "groups": 2},
    "k5_e3": {"kernel": 5, "expansion": 3},
    "k5_e6": {"kernel": 5, "expansion": 6},
}
OPTIONS = (*BLOCKS, "skip")
GROUP = "layers"

STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
SMALL_STAGES = ((16, 1, 1), (24, 2, 2), (32, 2, 2), (64, 1, 1))


@dataclass(frozen=True)
class Layer:
    """Shape of one searched layer: (in_channels, height, width) in, out_channels out."""

    in_channels: int
    out_channels: int
    stride: int
    size: Size

    def block(self, option: str) -> nn.Module:
        """Build an option of this layer."""
        if option == "skip":
            return skip(self.in_channels, self.out_channels, self.stride)
        return InvertedResidual(self.in_channels, self.out_channels, stride=self.stride, **BLOCKS[option])

    def choice(self) -> Choice:
        """Describe the choice that the supernet mixes."""

        def build(option: str, in_channels: int, out_channels: int) -> nn.Module:
            return replace(self, in_channels=in_channels, out_channels=out_channels).block(option)

        return Choice(OPTIONS, build, self.in_channels, self.out_channels, self.stride)

    def key(self, option: str) -> str:
        """Cost key: equal for layers of equal shape."""
        return f"{option} {self.in_channels}x{by(self.size)} -> {self.out_channels} /{self.stride}"


class FBNetSpace(WeightSharingSpace):
    r"""Chain of inverted bottlenecks of FBNet (Wu et al., CVPR 2019, arXiv:1812.03443, tables 1 and 2).

    Each layer has a fixed width and stride and takes one of nine blocks: the paper's 22 layers give
    :math:`9^{22} \approx 9.8 \cdot 10^{20}` architectures. One decision a layer, ``layer_01``, ``layer_02``, ...; the
    option ``k5_e6`` is an inverted bottleneck with a 5x5 depthwise convolution and 6 times as many channels inside,
    ``_g2`` has two groups in the 1x1 convolutions, and ``skip`` is no block at all.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). The supernet has one group of
    gates, "layers", with a row for each layer.

    Differs from the paper: nothing in the blocks. ``skip`` is a strided 1x1 convolution with batch norm and ReLU where
    a layer changes shape, as in the authors' released models.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        stem: (channels, stride) of the first 3x3 convolution.
        stages: (channels, layers, stride of the first layer) of each stage.
        head: channels of the last 1x1 convolution.
        dropout: probability before the classifier.
        fused: run the supernet's mixed layers in the fused form (same numbers, same state, faster).

    Raises:
        InputError: an odd number of channels somewhere (grouped blocks need even ones), or images below 8 pixels.

    Example:
        >>> space = FBNetSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('skip')
        ('fbnet_small', 6, 'no block: the identity, or a 1x1 convolution where the shape changes')
        >>> space = FBNetSpace("toy", image_size=8, in_channels=1, num_classes=10, stem=(8, 1), stages=[(8, 1, 1)])
        >>> a = space.validate({"layer_01": "k3_e3"})
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(small={"name": "fbnet_small", "stem": (16, 1), "stages": SMALL_STAGES, "head": 128})
    def __init__(
        self,
        name: str = "fbnet",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 224,
        in_channels: Width = 3,
        num_classes: PositiveInt = 1000,
        stem: Stem = (16, 2),
        stages: Stages = STAGES,
        head: Width = 1984,
        dropout: Probability = 0.0,
        fused: bool = True,
    ) -> None:
        size = size_of(image_size)
        if size < 8:
            raise InputError(f"the space {name!r} needs images of at least 8 pixels, got {size}")
        if odd := [c for c in (stem[0], *(stage[0] for stage in stages)) if c % 2]:
            raise InputError(f"the space {name!r} needs even channel numbers (grouped blocks), got {odd[0]}")
        self.name = name
        self.input_shape = (in_channels, *pair(size))
        self.num_classes = num_classes
        self.stem, self.head, self.dropout, self.fused = tuple(stem), head, dropout, fused
        self.layers = tuple(Layer(*shape) for shape in shapes(stem[0], -(-size // stem[1]), stages))
        self.decisions = tuple(Decision(f"layer_{i:02d}", OPTIONS) for i in range(1, len(self.layers) + 1))
        self.gate_shapes = {GROUP: (len(self.layers), len(OPTIONS))}
        self.gate_options = {GROUP: OPTIONS}

    def meaning(self, option: str) -> str:
        if option == "skip":
            return "no block: the identity, or a 1x1 convolution where the shape changes"
        return block_meaning(option)

    # -- networks -----------------------------------------------------------------------------------------------

    def _stem(self) -> nn.Module:
        return conv_bn(self.input_shape[0], self.stem[0], 3, self.stem[1])

    def _head(self, num_classes: int) -> nn.Sequential:
        return nn.Sequential(
            conv_bn(self.layers[-1].out_channels, self.head),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(self.head, num_classes),
        )

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> FBNetNetwork:
        """Stem, the chosen blocks, 1x1 convolution, average pooling, dropout, classifier; never an auxiliary one."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options
        blocks = [layer.block(option) for layer, option in zip(self.layers, chosen, strict=True)]
        return FBNetNetwork(self._stem(), blocks, self._head(classes_of(num_classes, self.num_classes)))

    def supernet(self, mix: Mix | None = None) -> FBNetSupernet:
        """The stochastic supernet: every layer mixes its nine blocks."""
        mix = mix or (fused if self.fused else plain)
        blocks = [mix(layer.choice()) for layer in self.layers]
        return FBNetSupernet(self._stem(), blocks, self._head(self.num_classes))

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one a layer."""
        return Gates.one_hot({GROUP: [OPTIONS.index(o) for o in self.validate(architecture).options]}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable block of every layer."""
        best = probabilities[GROUP].argmax(-1).tolist()
        return Architecture(self.name, tuple((d.name, OPTIONS[i]) for d, i in zip(self.decisions, best, strict=True)))

    def extract(self, supernet: Supernet, architecture: Architecture) -> FBNetNetwork:
        """The chosen blocks with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        network.load_state_dict(chosen_state(supernet.state_dict(), "layers", architecture.options))
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, the layers, head."""
        size, channels = self.layers[0].size, self.stem[0]
        nodes = [("input", f"{'x'.join(map(str, self.input_shape))}"), ("stem", f"conv 3x3\n{channels}x{by(size)}")]
        for layer, (name, option) in zip(self.layers, architecture.choices, strict=True):
            out = -(-layer.size // layer.stride)
            nodes.append((name, f"{option}\n{layer.out_channels}x{by(out)}"))
        nodes.append(("head", f"conv 1x1, pool\n{self.head} -> {self.num_classes}"))
        return chain_graph(nodes)

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        first, last = self.layers[0], self.layers[-1]
        out = -(-last.size // last.stride)
        channels, *sides = self.input_shape
        return {
            f"stem {channels}x{by(size_of(sides))} -> {first.in_channels} /{self.stem[1]}": Operation(
                self._stem, self.input_shape
            ),
            f"head {last.out_channels}x{by(out)} -> {self.head} -> {self.num_classes}": Operation(
                lambda: self._head(self.num_classes), (last.out_channels, *pair(out))
            ),
        }

    def operations(self) -> dict[str, Operation]:
        """Stem, head, and every block at every distinct layer shape."""
        searched = {
            layer.key(option): Operation(
                partial(layer.block, option),
                (layer.in_channels, *pair(layer.size)),
            )
            for layer in self.layers
            for option in OPTIONS
        }
        return self._fixed() | searched

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Stem, head and one block a layer."""
        chosen = self.validate(architecture).options
        return (*self._fixed(), *(layer.key(option) for layer, option in zip(self.layers, chosen, strict=True)))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Stem and head are always run; each option adds its own block."""
        rows = tuple(tuple((layer.key(option),) for option in OPTIONS) for layer in self.layers)
        return tuple(self._fixed()), {GROUP: rows}


class FBNetNetwork(nn.Module):
    """Chain of blocks. Images (N, C, H, W) in, logits (N, num_classes) out."""

    def __init__(self, stem: nn.Module, layers: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers, self.head = stem, nn.ModuleList(layers), head
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


class FBNetSupernet(Supernet):
    """Chain whose layers mix their blocks, in the channels-last memory format."""

    def __init__(self, stem: nn.Module, layers: Sequence[MixedOp], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers, self.head = stem, nn.ModuleList(layers), head
        initialize(self)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each layer's blocks by its row of ``gates``."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for layer, row, active in zip(self.layers, gates.values[GROUP], gates.active[GROUP], strict=True):
            x = layer(x, row, active)
        logits: Tensor = self.head(x)
        return logits
