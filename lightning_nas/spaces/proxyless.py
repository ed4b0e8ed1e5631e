r"""The search space of ProxylessNAS (Cai et al., ICLR 2019, arXiv:1812.00332): MobileNetV2 with searched blocks.

A chain of blocks of fixed width and stride, each with kernel 3, 5 or 7 and expansion 3 or 6. A block that keeps its
shape may also be ``zero``: nothing but its identity shortcut is left. The paper's 21 blocks, 15 of which keep their
shape, give :math:`6^6 \cdot 7^{15} = 221{,}502{,}229{,}807{,}900{,}608` architectures.

Differs from the paper: nothing in the blocks; weights begin with :func:`~lightning_nas.ops.blocks.initialize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import networkx as nx
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import MBConv, conv_bn6
from lightning_nas.ops.fused import fused
from lightning_nas.ops.mixed import Mix, plain
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chains import chain_graph, chosen_state, shapes
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.proxyless_blocks import (
    BLOCKS,
    GROUPS,
    Block,
    Parts,
    ProxylessNetwork,
    ProxylessSupernet,
)

STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))


class ProxylessSpace(WeightSharingSpace):
    """ProxylessNAS' blocks, for any image size.

    Args:
        name: name carried by the architectures.
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
        >>> import torch
        >>> space = ProxylessSpace("toy", image_size=8, in_channels=1, stem=(8, 1), first=8, stages=[(8, 2, 2)])
        >>> a = space.validate({"block_01": "k3_e3", "block_02": "zero"})
        >>> tuple(space.network(a, num_classes=5)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 5)
    """

    def __init__(
        self,
        name: str = "proxyless",
        *,
        image_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        stem: Sequence[int] = (32, 2),
        first: int = 16,
        stages: Sequence[Sequence[int]] = STAGES,
        mix: int = 1280,
        dropout: float = 0.0,
        fused: bool = True,
    ) -> None:
        if image_size < 8:
            raise InputError(f"the space {name!r} needs images of at least 8 pixels, got {image_size}")
        self.name = name
        self.input_shape = (in_channels, image_size, image_size)
        self.num_classes = num_classes
        self.stem, self.first, self.mix, self.dropout, self.fused = tuple(stem), first, mix, dropout, fused
        self.blocks = tuple(Block(*shape) for shape in shapes(first, -(-image_size // stem[1]), stages))
        self.decisions = tuple(Decision(f"block_{i:02d}", block.options) for i, block in enumerate(self.blocks, 1))
        rows = {group: sum(block.group == group for block in self.blocks) for group in GROUPS}
        self.gate_shapes = {group: (rows[group], len(options)) for group, options in GROUPS.items() if rows[group]}
        self.gate_options = {group: GROUPS[group] for group in self.gate_shapes}

    # -- networks -----------------------------------------------------------------------------------------------

    def _parts(self, blocks: Sequence[nn.Module], num_classes: int) -> Parts:
        return Parts(
            stem=conv_bn6(self.input_shape[0], self.stem[0], 3, self.stem[1]),
            first=MBConv(self.stem[0], self.first, kernel=3, expansion=1),
            blocks=nn.ModuleList(blocks),
            mix=conv_bn6(self.blocks[-1].out_channels, self.mix),
            classifier=nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout), nn.Linear(self.mix, num_classes)
            ),
        )

    def _part(self, name: str) -> nn.Module:
        part: nn.Module = getattr(self._parts([], self.num_classes), name)
        return part

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> ProxylessNetwork:
        """First convolution and block, the chosen blocks, 1x1 convolution, pooling, dropout, classifier."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options
        blocks = [block.build(option) for block, option in zip(self.blocks, chosen, strict=True)]
        return ProxylessNetwork(self._parts(blocks, num_classes or self.num_classes))

    def supernet(self, mix: Mix | None = None) -> ProxylessSupernet:
        """Every block mixes its candidates."""
        mix = mix or (fused if self.fused else plain)
        mixed = [mix(block.choice()) for block in self.blocks]
        return ProxylessSupernet(self._parts(mixed, self.num_classes), [block.group for block in self.blocks])

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one a block."""
        chosen: dict[str, list[int]] = {group: [] for group in self.gate_shapes}
        for block, option in zip(self.blocks, self.validate(architecture).options, strict=True):
            chosen[block.group].append(block.options.index(option))
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable option of every block."""
        best = {group: iter(probabilities[group].argmax(-1).tolist()) for group in self.gate_shapes}
        chosen = [block.options[next(best[block.group])] for block in self.blocks]
        return Architecture(self.name, tuple((d.name, o) for d, o in zip(self.decisions, chosen, strict=True)))

    def extract(self, supernet: Supernet, architecture: Architecture) -> ProxylessNetwork:
        """The chosen blocks with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        network.load_state_dict(chosen_state(supernet.state_dict(), "blocks", architecture.options))
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, first block, the blocks, head."""
        size = self.blocks[0].size
        nodes = [
            ("input", "x".join(map(str, self.input_shape))),
            ("stem", f"conv 3x3\n{self.stem[0]}x{size}x{size}"),
            ("first", f"k3_e1\n{self.first}x{size}x{size}"),
        ]
        for block, (name, option) in zip(self.blocks, architecture.choices, strict=True):
            nodes.append((name, f"{option}\n{block.out_channels}x{block.out_size}x{block.out_size}"))
        nodes.append(("head", f"conv 1x1, pool\n{self.mix} -> {self.num_classes}"))
        return chain_graph(nodes)

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        size, out = self.blocks[0].size, self.blocks[-1].out_size
        channels, image, _ = self.input_shape
        last, (stem, stride) = self.blocks[-1].out_channels, self.stem
        shapes = {
            "stem": (f"{channels}x{image}x{image} -> {stem} /{stride}", self.input_shape),
            "first": (f"{stem}x{size}x{size} -> {self.first}", (stem, size, size)),
            "mix": (f"{last}x{out}x{out} -> {self.mix}", (last, out, out)),
            "classifier": (f"{self.mix}x{out}x{out} -> {self.num_classes}", (self.mix, out, out)),
        }
        return {f"{part} {text}": Operation(partial(self._part, part), shape) for part, (text, shape) in shapes.items()}

    def operations(self) -> dict[str, Operation]:
        """The four fixed parts, and every block with every distinct shape."""
        searched = {key: operation for block in self.blocks for key, operation in block.operations().items()}
        return self._fixed() | searched

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The four fixed parts and the blocks that are not zero."""
        chosen = self.validate(architecture).options
        return (*self._fixed(), *(k for b, option in zip(self.blocks, chosen, strict=True) for k in b.keys(option)))

    def published_keys(self) -> dict[str, str]:
        """Cost keys as the authors' latency tables spell them, by ours."""
        size, out, image = self.blocks[0].size, self.blocks[-1].out_size, self.input_shape[1]
        last, stem = self.blocks[-1].out_channels, self.stem[0]
        first = Block(stem, self.first, 1, size)
        fixed = (
            f"Conv-input:{image}x{image}x{self.input_shape[0]}-output:{size}x{size}x{stem}",
            first.published_key(3, 1),
            f"Conv_1-input:{out}x{out}x{last}-output:{out}x{out}x{self.mix}",
            f"Logits-input:{out}x{out}x{self.mix}-output:{self.num_classes}",
        )
        searched = {b.keys(o)[0]: b.published_key(*BLOCKS[o]) for b in self.blocks for o in BLOCKS}
        return dict(zip(self._fixed(), fixed, strict=True)) | searched

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """The four parts are always run; each option adds its own block, zero nothing."""
        rows = {
            group: tuple(tuple(b.keys(option) for option in b.options) for b in self.blocks if b.group == group)
            for group in self.gate_shapes
        }
        return tuple(self._fixed()), rows
