"""Base class of chains of searched blocks between a stem and a classifier: networks, gates and cost.

A subclass says which blocks there are, and which parts stand before and after them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import networkx as nx
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import MBConv
from lightning_nas.ops.fused import fused
from lightning_nas.ops.mixed import Choice, Mix, plain
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph, chosen_state
from lightning_nas.spaces.chains.networks import ChainNetwork, ChainSupernet, Parts
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import Size, by, pair
from lightning_nas.spaces.sizes import classes_of

SMALLEST = 8  # pixels


@dataclass(frozen=True)
class SearchedBlock(ABC):
    """One searched block: (in_channels, height, width) in, out_channels out."""

    in_channels: int
    out_channels: int
    stride: int
    size: Size

    @property
    @abstractmethod
    def options(self) -> tuple[str, ...]:
        """Names of its options, in the order of the gates."""

    @property
    def group(self) -> str:
        """Group of gates that it belongs to; blocks of one group have the same options."""
        return "blocks"

    @property
    def residual(self) -> bool:
        """Whether the supernet adds the input to the mixture."""
        return False

    @property
    def out_size(self) -> Size:
        """Height and width of the output."""
        return -(-self.size // self.stride)

    @abstractmethod
    def build(self, option: str) -> nn.Module:
        """Build an option for a stand-alone network."""

    @abstractmethod
    def choice(self) -> Choice:
        """Describe the choice that the supernet mixes."""

    def keys(self, option: str) -> Keys:
        """Cost keys: equal for blocks of equal shape, none for free options."""
        return (f"{option} {self.in_channels}x{by(self.size)} -> {self.out_channels} /{self.stride}",)

    def operations(self) -> dict[str, Operation]:
        """Operations of all options, by cost key."""
        shape = (self.in_channels, *pair(self.size))
        return {
            key: Operation(partial(self.build, option), shape) for option in self.options for key in self.keys(option)
        }


@dataclass(frozen=True)
class Frame:
    """Parts of a network around the searched blocks.

    Attributes:
        in_channels: channels of the images.
        image_size: height and width of the images.
        num_classes: width of the classifier.
        stem: (channels, stride) of the first 3x3 convolution.
        mix: channels of the last 1x1 convolution.
        dropout: probability before the classifier.
        convolution: makes both convolutions.
        first: channels of a fixed block after the stem (kernel 3, expansion 1); None for no such block.
        bias: whether the classifier has a bias.
    """

    in_channels: int
    image_size: Size
    num_classes: int
    stem: Sequence[int]
    mix: int
    dropout: float
    convolution: Callable[..., nn.Module]
    first: int | None = None
    bias: bool = True

    @property
    def size(self) -> Size:
        """Height and width after the stem."""
        return -(-self.image_size // self.stem[1])

    def parts(self, blocks: Sequence[nn.Module], last: int, num_classes: int | None = None) -> Parts:
        """Build the parts around ``blocks``, whose output has ``last`` channels."""
        classifier = nn.Linear(self.mix, classes_of(num_classes, self.num_classes), bias=self.bias)
        return Parts(
            stem=self.convolution(self.in_channels, self.stem[0], 3, self.stem[1]),
            first=MBConv(self.stem[0], self.first, kernel=3, expansion=1) if self.first else nn.Identity(),
            blocks=nn.ModuleList(blocks),
            mix=self.convolution(last, self.mix),
            classifier=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout), classifier),
        )

    def operations(self, channels: int, out: Size) -> dict[str, Operation]:
        """Operations that always run, by cost key, if the last block gives (channels, *out)."""
        image, size, stem = self.image_size, self.size, self.stem[0]
        made = {"stem": (f"{self.in_channels}x{by(image)} -> {stem} /{self.stem[1]}", (self.in_channels, image))}
        if self.first:
            made["first"] = (f"{stem}x{by(size)} -> {self.first}", (stem, size))
        made["mix"] = (f"{channels}x{by(out)} -> {self.mix}", (channels, out))
        made["classifier"] = (f"{self.mix}x{by(out)} -> {self.num_classes}", (self.mix, out))
        return {
            f"{part} {text}": Operation(partial(self._part, part, channels), (width, *pair(side)))
            for part, (text, (width, side)) in made.items()
        }

    def _part(self, name: str, last: int) -> nn.Module:
        part: nn.Module = getattr(self.parts([], last), name)
        return part


class ChainSpace(WeightSharingSpace):
    """Chain of searched blocks, with one decision a block unless a subclass decides more.

    Args:
        name: name of the space, which its architectures carry.
        frame: parts before and after the blocks.
        blocks: searched blocks, in order.
        fused: mix blocks in the fused form, which gives the same numbers.

    Raises:
        InputError: images below 8 pixels.
    """

    def __init__(self, name: str, frame: Frame, blocks: Sequence[SearchedBlock], *, fused: bool = False) -> None:
        if frame.image_size < SMALLEST:
            raise InputError(f"the space {name!r} needs images of at least {SMALLEST} pixels, got {frame.image_size}")
        self.name, self.frame, self.blocks, self.fused = name, frame, tuple(blocks), fused
        self.input_shape = (frame.in_channels, *pair(frame.image_size))
        self.num_classes = frame.num_classes
        self._names = tuple(f"block_{i:02d}" for i in range(1, len(blocks) + 1))
        self.decisions = tuple(Decision(n, block.options) for n, block in zip(self._names, blocks, strict=True))
        self.gate_options = {group: self._of(group)[0].options for group in sorted({b.group for b in blocks})}
        self.gate_shapes = {group: (len(self._of(group)), len(names)) for group, names in self.gate_options.items()}

    def _of(self, group: str) -> list[SearchedBlock]:
        return [block for block in self.blocks if block.group == group]

    def _chosen(self, architecture: Architecture) -> tuple[str, ...]:
        """Option of every block."""
        return self.validate(architecture).options

    def _architecture(self, chosen: Sequence[str]) -> Architecture:
        """Inverse of :meth:`_chosen`."""
        return Architecture(self.name, tuple(zip(self._names, chosen, strict=True)))

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> ChainNetwork:
        """First convolution, the chosen blocks, 1x1 convolution, pooling, dropout, classifier."""
        no_auxiliary(self, auxiliary)
        blocks = [b.build(option) for b, option in zip(self.blocks, self._chosen(architecture), strict=True)]
        return ChainNetwork(self.frame.parts(blocks, self.blocks[-1].out_channels, num_classes))

    def supernet(self, mix: Mix | None = None) -> ChainSupernet:
        """Every block mixes its candidates."""
        mix = mix or (fused if self.fused else plain)
        mixed = [mix(block.choice()) for block in self.blocks]
        places = [(block.group, block.residual) for block in self.blocks]
        return ChainSupernet(self.frame.parts(mixed, self.blocks[-1].out_channels), places)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one a block."""
        chosen: dict[str, list[int]] = {group: [] for group in self.gate_shapes}
        for block, option in zip(self.blocks, self._chosen(architecture), strict=True):
            chosen[block.group].append(self.gate_options[block.group].index(option))
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable option of every block."""
        best = {group: iter(probabilities[group].argmax(-1).tolist()) for group in self.gate_shapes}
        return self._architecture([self.gate_options[b.group][next(best[b.group])] for b in self.blocks])

    def extract(self, supernet: Supernet, architecture: Architecture) -> ChainNetwork:
        """The chosen blocks with a copy of the supernet's weights and batch-norm statistics, cut to their widths."""
        network = self.network(architecture).to(next(supernet.parameters()))
        wanted = network.state_dict()
        kept = chosen_state(supernet.state_dict(), "blocks", self._chosen(architecture))
        network.load_state_dict({k: v[tuple(slice(n) for n in wanted[k].shape)] for k, v in kept.items()})
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, the blocks, head."""
        frame, size = self.frame, self.frame.size
        nodes = [
            ("input", "x".join(map(str, self.input_shape))),
            ("stem", f"conv 3x3\n{frame.stem[0]}x{by(size)}"),
        ]
        if frame.first:
            nodes.append(("first", f"k3_e1\n{frame.first}x{by(size)}"))
        for block, name, option in zip(self.blocks, self._names, self._chosen(architecture), strict=True):
            nodes.append((name, f"{option}\n{block.out_channels}x{by(block.out_size)}"))
        nodes.append(("head", f"conv 1x1, pool\n{frame.mix} -> {self.num_classes}"))
        return chain_graph(nodes)

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        last = self.blocks[-1]
        return self.frame.operations(last.out_channels, last.out_size)

    def operations(self) -> dict[str, Operation]:
        """The fixed parts, and every option of every block with every distinct shape."""
        return self._fixed() | {key: made for block in self.blocks for key, made in block.operations().items()}

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The fixed parts and the chosen blocks."""
        chosen = zip(self.blocks, self._chosen(architecture), strict=True)
        return (*self._fixed(), *(key for block, option in chosen for key in block.keys(option)))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """The fixed parts are always run; each option adds its own block."""
        rows = {
            group: tuple(tuple(block.keys(option) for option in block.options) for block in self._of(group))
            for group in self.gate_shapes
        }
        return tuple(self._fixed()), rows
