"""Sizes of DARTS networks: width, depth and stem."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import networkx as nx
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.cells import auxiliary_head
from lightning_nas.ops.mixed import Mix
from lightning_nas.spaces.base import Keys, Operation, SearchSpace
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.cells.genotype import Genotype, genotype_graphs
from lightning_nas.spaces.cells.place import Stem, Widths
from lightning_nas.spaces.cells.stacked import stacked_cells_graph
from lightning_nas.spaces.darts.networks import (
    Cell,
    CellShape,
    DARTSNetwork,
    DARTSSupernet,
    MixedCell,
    reductions,
)
from lightning_nas.spaces.meanings import operation_meaning, states_meaning
from lightning_nas.spaces.sides import Size, by, pair
from lightning_nas.spaces.sizes import classes_of


class CellsSpace(SearchSpace):
    """Base class of spaces whose architectures are two kinds of cell in the network of DARTS.

    Attributes:
        form: sizes of the network.
    """

    form: Form

    @abstractmethod
    def genotypes(self, architecture: Architecture) -> dict[str, Genotype]:
        """Both kinds of cell."""

    def meaning(self, option: str) -> str:
        return operation_meaning(states_meaning(option))

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> DARTSNetwork:
        """Stem, cells, average pooling, classifier; the auxiliary one after the second reduction cell."""
        return self.form.network(self.genotypes(architecture), num_classes, auxiliary)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Stem, cells, classifier: a box for all cells of a kind that follow one another."""
        widths = {kind: len(genotype.concat) for kind, genotype in self.genotypes(architecture).items()}
        return stacked_cells_graph(self.form.stem, self.form.shapes(widths), widths, self.num_classes)

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Both kinds of cell."""
        return genotype_graphs(self.genotypes(architecture))

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and the operations of every cell."""
        return self.form.keys(self.genotypes(architecture))


@dataclass(frozen=True)
class Form:
    """Sizes of a DARTS network, without its cells.

    Args:
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        cells: number of cells.
        channels: channels of the first cells.
        stem: "cifar", a 3x3 convolution to three times ``channels``; or "imagenet", three of stride 2.
        affine: batch norms of the cells learn scale and shift; see :func:`~lightning_nas.ops.cells.operation`.
        pool_norm: pools always have a batch norm.

    Raises:
        InputError: fewer than three cells, odd channels, or images too small to be halved twice.
    """

    image_size: Size
    in_channels: int
    num_classes: int
    cells: int
    channels: int
    stem: Stem
    affine: bool
    pool_norm: bool = False

    def __post_init__(self) -> None:
        smallest = {"cifar": 4, "imagenet": 32}[self.stem]
        if self.image_size < smallest:
            raise InputError(
                f"DARTS networks with stem={self.stem} need images of at least {smallest} pixels, got {self.image_size}"
            )
        if self.cells < 3:
            raise InputError(f"DARTS networks have at least 3 cells, two of which reduce; got cells={self.cells}")
        if self.channels % 2:
            raise InputError(f"DARTS networks need an even number of channels, got channels={self.channels}")

    # -- stem and head ------------------------------------------------------------------------------------------

    def stages(self) -> list[Operation]:
        """The parts of the stem in order."""
        c, size = self.channels, self.image_size
        if self.stem == "cifar":
            return [
                Operation(partial(conv_bn, self.in_channels, 3 * c, 3, relu=False), (self.in_channels, *pair(size)))
            ]
        halved = -(-size // 4)
        return [
            Operation(partial(_first_stage, self.in_channels, c), (self.in_channels, *pair(size))),
            Operation(lambda: nn.Sequential(nn.ReLU(), *conv_bn(c, c, 3, 2, relu=False)), (c, *pair(halved))),
        ]

    def make_stem(self) -> nn.ModuleList:
        """A fresh stem."""
        return nn.ModuleList(stage.build() for stage in self.stages())

    def make_head(self, channels: int, num_classes: int | None = None) -> nn.Sequential:
        """A fresh classifier."""
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes_of(num_classes, self.num_classes))
        )

    def make_auxiliary(self, shape: CellShape, channels: int, num_classes: int) -> nn.Module:
        """Build the auxiliary classifier after the cell of that shape, whose output has ``channels`` channels.

        Raises:
            InputError: the output of the cell has another size than the classifier takes.
        """
        stride = 3 if self.stem == "cifar" else 2
        if any((side - 5) // stride != 1 for side in pair(shape.size)):
            sizes = "29 to 44" if self.stem == "cifar" else "193 to 288"
            raise InputError(
                f"the auxiliary classifier with stem={self.stem} needs images of {sizes} pixels, got {self.image_size}"
            )
        return auxiliary_head(channels, num_classes, stride=stride, last_norm=self.stem == "cifar")

    # -- cells --------------------------------------------------------------------------------------------------

    def shapes(self, widths: Widths) -> tuple[CellShape, ...]:
        """The shape of every cell."""
        if self.stem == "cifar":
            before_last = last = 3 * self.channels, self.image_size
        else:
            before_last, last = ((self.channels, -(-self.image_size // by)) for by in (4, 8))
        channels, made = self.channels, []
        for i in range(self.cells):
            kind = "reduce" if i in reductions(self.cells) else "normal"
            channels *= 2 if kind == "reduce" else 1
            shape = CellShape(kind, channels, (before_last, last), self.affine, self.pool_norm)
            made.append(shape)
            before_last, last = last, (channels * widths[kind], shape.size)
        return tuple(made)

    def network(self, genotypes: Mapping[str, Genotype], num_classes: int | None, auxiliary: bool) -> DARTSNetwork:
        """Build the stand-alone network, with fresh weights."""
        widths = {kind: len(genotype.concat) for kind, genotype in genotypes.items()}
        shapes, classes = self.shapes(widths), classes_of(num_classes, self.num_classes)
        seen = shapes[reductions(self.cells)[1]]
        return DARTSNetwork(
            self.make_stem(),
            [Cell(shape, genotypes[shape.kind]) for shape in shapes],
            self.make_head(shapes[-1].channels * widths[shapes[-1].kind], classes),
            self.make_auxiliary(seen, seen.channels * widths["reduce"], classes) if auxiliary else None,
        )

    def supernet(self, options: tuple[str, ...], nodes: int, mix: Mix, *, fused: bool) -> DARTSSupernet:
        """The supernet, with fresh weights."""
        shapes = self.shapes(dict.fromkeys(("normal", "reduce"), nodes))
        cells = [MixedCell(shape, options, nodes, mix, fused=fused) for shape in shapes]
        head = self.make_head(shapes[-1].channels * nodes)
        return DARTSSupernet(self.make_stem(), cells, [shape.kind for shape in shapes], head)

    # -- cost ---------------------------------------------------------------------------------------------------

    def fixed(self, widths: Widths) -> list[tuple[str, Operation]]:
        """Cost key and operation of all parts that do not depend on choices: stem, preprocessing, head."""
        made = []
        for number, stage in enumerate(self.stages()):
            key = f"stem_{number} {self.stem} {'x'.join(map(str, stage.input_shape))} -> {self.channels}"
            made.append((key, stage))
        shapes = self.shapes(widths)
        for shape in shapes:
            for i, (channels, size) in enumerate(shape.inputs):
                key = f"preprocess {channels}x{by(size)} -> {shape.channels} /{2 if shape.halves(i) else 1}"
                made.append((key, Operation(partial(shape.preprocess, i), (channels, *pair(size)))))
        last = shapes[-1]
        channels = last.channels * widths[last.kind]
        key = f"head {channels}x{by(last.size)} -> {self.num_classes}"
        made.append((key, Operation(partial(self.make_head, channels), (channels, *pair(last.size)))))
        return made

    def keys(self, genotypes: Mapping[str, Genotype]) -> Keys:
        """Cost keys of all parts of a network with these cells."""
        widths = {kind: len(genotype.concat) for kind, genotype in genotypes.items()}
        chosen = (
            key
            for shape in self.shapes(widths)
            for node in genotypes[shape.kind].nodes
            for option, state in node
            for key in shape.key(option, state)
        )
        return (*(key for key, _ in self.fixed(widths)), *chosen)

    def searched(self, options: tuple[str, ...]) -> dict[str, Operation]:
        """Every operation at every place, free ones left out."""
        return {
            key: Operation(partial(shape.operation, option, state), (shape.channels, *pair(shape.edge(state)[0])))
            for shape in self.shapes({"normal": 1, "reduce": 1})
            for state in (0, 2)  # an input, a node
            for option in options
            for key in shape.key(option, state)
        }


def _first_stage(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_bn(in_channels, channels // 2, 3, 2), *conv_bn(channels // 2, channels, 3, 2, relu=False)
    )
