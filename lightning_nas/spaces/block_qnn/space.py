"""The search space of Block-QNN (Zhong et al., CVPR 2018, arXiv:1708.05552): one block, of as many layers as it takes.

Each layer is a convolution (1, 3 or 5), a pool (1 or 3), an identity, an addition, a concatenation, or the terminal
that ends the block; it works on any earlier ones. Whatever no layer works on is the output. The network is stages of
the same block, with pools between them. A block is written in network structure codes, see
:mod:`~lightning_nas.spaces.block_qnn.code`.

Differs from the paper: nothing that is known; its text gives no code. What leaves the width of a block by joining
tensors gets back to it by a 1x1 convolution, as in two independent implementations. The stem has a batch norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import networkx as nx
from pydantic import PositiveInt
from torch import nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ranges import Depth, Nodes, Side, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary
from lightning_nas.spaces.block_qnn.code import JOINS, KERNELS, TYPES, LayerCode, checked, density, legal_codes, loose
from lightning_nas.spaces.block_qnn.networks import Block, BlockNetwork, BlockPlace, Piece
from lightning_nas.spaces.meanings import operation_meaning
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images


class BlockQNNSpace(SearchSpace):
    """Block of up to 23 layers, repeated in a network of stages: Block-QNN (Zhong et al., CVPR 2018, arXiv:1708.05552).

    Each layer is a convolution (1, 3 or 5), a pool (1 or 3), an identity, an addition, a concatenation, or the terminal
    that ends the block. Decisions are taken layer by layer: ``layer_01_type``, ``_kernel``, ``_pred1``, ``_pred2``
    (numbers of the layers it works on; 0 is the input of the block). Layers that no other works on form the output. The
    layer-by-layer view of Q-learning is :meth:`actions`, :meth:`codes` and :meth:`of_codes`. It has no supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper: the stem has a batch norm. Where joined tensors leave the width of a block, a 1x1
    convolution restores it, as in two independent implementations; the paper's text does not say.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: largest number of layers of a block, the terminal included.
        blocks: blocks of each stage.
        channels: channels of each stage; the stem has those of the first.

    Raises:
        InputError: fewer than two layers, no stage, or images that cannot be halved between the stages.

    Example:
        >>> space = BlockQNNSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions)
        ('block_qnn_small', 24)
        >>> import torch
        >>> from lightning_nas.spaces.block_qnn.code import parsed
        >>> space = BlockQNNSpace("toy", image_size=8, in_channels=1, layers=4, blocks=1, channels=[8, 16])
        >>> a = space.of_codes(parsed("(1,1,5,0,0) (2,5,0,0,1) (3,7,0,0,0)"))
        >>> str(a)
        'conv 5 0 add 0 1 terminal'
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
        >>> space.density(a)
        1.0
    """

    @sized_by_images(small={"name": "block_qnn_small", "layers": 7, "blocks": 1, "channels": (8, 16)})
    def __init__(
        self,
        name: str = "block_qnn",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        layers: Depth = 23,
        blocks: Nodes = 4,
        channels: Sequence[Width] = (32, 64, 128),
    ) -> None:
        if layers < 2 or not channels:
            raise InputError(f"the space {name!r} needs 2 layers and a stage; got layers={layers}, channels={channels}")
        if image_size < 2 ** (len(channels) - 1):
            raise InputError(f"{image_size} pixels cannot be halved between the {len(channels)} stages of {name!r}")
        self.name, self.layers, self.blocks, self.channels = name, layers, blocks, tuple(channels)
        self.input_shape, self.num_classes = (in_channels, image_size, image_size), num_classes
        self.decisions = tuple(decision for index in range(1, layers + 1) for decision in _decisions(index, layers))

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options: none after the terminal, kernels of the type, two different predecessors."""
        _, number, question = decision.name.split("_")
        index = int(number)
        kind = partial.get(_name(index, "type"))
        if question == "type":
            ended = index > 1 and partial.get(_name(index - 1, "type"), TYPES[-1]) == TYPES[-1]
            return () if ended else decision.options
        if kind is None or kind == TYPES[-1]:
            return ()
        if question == "kernel":
            return tuple(map(str, KERNELS.get(kind, ())))
        if question == "pred1":
            return decision.options
        taken = partial.get(_name(index, "pred1"))
        return tuple(p for p in decision.options if p != taken) if kind in JOINS else ()

    def actions(self, index: int) -> tuple[LayerCode, ...]:
        """List the codes that layer ``index`` can have: the actions of Q-learning."""
        return legal_codes(index, self.layers)

    def codes(self, architecture: Architecture) -> tuple[LayerCode, ...]:
        """Write an architecture as layer codes; the last code is the terminal."""
        choices, made = dict(self.validate(architecture).choices), list[LayerCode]()
        while not made or made[-1].kind != TYPES[-1]:
            index = len(made) + 1
            numbers = (int(choices.get(_name(index, q), 0)) for q in ("kernel", "pred1", "pred2"))
            made.append(LayerCode(index, TYPES.index(choices[_name(index, "type")]) + 1, *numbers))
        return tuple(made)

    def of_codes(self, codes: Sequence[LayerCode]) -> Architecture:
        """Read an architecture from layer codes: the inverse of :meth:`codes`.

        Raises:
            InvalidArchitecture: the codes are not a block of this space.
        """
        choices = {}
        for code in checked(codes, self.layers):
            choices[_name(code.layer, "type")] = code.kind
            if code.kind in KERNELS:
                choices[_name(code.layer, "kernel")] = str(code.kernel)
            for i, predecessor in enumerate(code.predecessors, start=1):
                choices[_name(code.layer, f"pred{i}")] = str(predecessor)
        return self.validate(choices)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Sort the predecessors of a join, and replace pools of size 1 by identities."""
        made = []
        for code in self.codes(architecture):
            if code.kind in JOINS:
                code = code._replace(pred1=min(code[3:]), pred2=max(code[3:]))
            elif code.kind.endswith("_pool") and code.kernel == 1:
                code = code._replace(type=TYPES.index("identity") + 1, kernel=0)
            made.append(code)
        return self.of_codes(made)

    def meaning(self, option: str) -> str:
        return operation_meaning(option)

    # -- quantities of the reward --------------------------------------------------------------------------------

    def density(self, architecture: Architecture) -> float:
        """Edges over nodes of the block."""
        return density(self.codes(architecture))

    def macs(self, architecture: Architecture) -> int:
        """Multiply-adds of the whole network, stem and classifier included."""
        channels, size, _ = self.input_shape
        fixed = 9 * channels * self.channels[0] * size**2 + self.channels[-1] * self.num_classes
        return fixed + sum(piece.macs for piece in self._pieces(architecture))

    # -- networks -----------------------------------------------------------------------------------------------

    def _places(self) -> list[list[BlockPlace]]:
        """Places of the blocks of each stage."""
        stages, size = list[list[BlockPlace]](), self.input_shape[1]
        before = self.channels[0]
        for width in self.channels:
            size = -(-size // 2) if stages else size
            stages.append([BlockPlace(before if i == 0 else width, width, size) for i in range(self.blocks)])
            before = width
        return stages

    def _pieces(self, architecture: Architecture) -> Iterator[Piece]:
        codes = self.codes(architecture)
        for place in (place for stage in self._places() for place in stage):
            layers, output = place.pieces(codes)
            yield from (piece for piece in (*layers, output) if piece)

    def _stem(self) -> nn.Module:
        return conv_bn(self.input_shape[0], self.channels[0], 3, relu=False)

    def _head(self, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.channels[-1], num_classes))

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> BlockNetwork:
        """3x3 convolution, stages of the block, average pooling, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        codes = self.codes(architecture)
        stages = [[Block(codes, place) for place in stage] for stage in self._places()]
        return BlockNetwork(self._stem(), stages, self._head(classes_of(num_classes, self.num_classes)))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Draw the block: its input, its layers, and the output that joins its loose ends."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node("0", label="input")
        codes = self.codes(architecture)
        for code in codes[:-1]:
            size = f" {code.kernel}x{code.kernel}" if code.kernel else ""
            graph.add_node(str(code.layer), label=f"{code.kind}{size}")
            graph.add_edges_from((str(p), str(code.layer)) for p in code.predecessors)
        graph.add_node("output", label=f"output\n{self.blocks} x {len(self.channels)} blocks")
        graph.add_edges_from((str(end), "output") for end in loose(codes))
        return graph

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        """Stem, the pools between the stages, classifier."""
        channels, size, _ = self.input_shape
        last = self._places()[-1][0]
        made = {f"stem {channels}x{size}x{size} -> {self.channels[0]}": Operation(self._stem, self.input_shape)}
        for width in self.channels[:-1]:
            made[f"halve {width}x{size}x{size}"] = Operation(_halve, (width, size, size))
            size = -(-size // 2)
        head = f"head {last.width}x{last.size}x{last.size} -> {self.num_classes}"
        made[head] = Operation(partial(self._head, self.num_classes), (last.width, last.size, last.size))
        return made

    def operations(self) -> dict[str, Operation]:
        """Fixed parts, and every module that a block can have."""
        places = dict.fromkeys(place for stage in self._places() for place in stage)
        return self._fixed() | _table(piece for place in places for piece in place.possible(self.layers))

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and the modules of the blocks."""
        return (*self._fixed(), *(piece.key for piece in self._pieces(architecture)))


def _table(pieces: Iterable[Piece]) -> dict[str, Operation]:
    return {piece.key: piece.operation() for piece in pieces}


def _halve() -> nn.Module:
    return nn.MaxPool2d(2, ceil_mode=True)


def _name(index: int, question: str) -> str:
    return f"layer_{index:02d}_{question}"


def _decisions(index: int, longest: int) -> Iterator[Decision]:
    """Type, kernel, predecessors of a layer; the first joins nothing, the last is the terminal."""
    node = f"layer_{index:02d}"
    if index == longest:
        yield Decision(f"{node}_type", TYPES[-1:], node)
        return
    kinds = TYPES if index > 1 else tuple(kind for kind in TYPES[:-1] if kind not in JOINS)
    yield Decision(f"{node}_type", kinds, node)
    yield Decision(f"{node}_kernel", tuple(map(str, KERNELS["conv"])), node)
    earlier = ("input", *(f"layer_{i:02d}" for i in range(1, index))) if index > 1 else ()
    for number in (1, 2) if index > 1 else (1,):
        yield Decision(f"{node}_pred{number}", tuple(map(str, range(index))), node, refers=earlier)
