r"""The search space of PNAS (Liu et al., ECCV 2018, arXiv:1712.00559): one cell, which grows block by block.

A block adds two operations of eight, each on an earlier state. The same cell keeps the size, or halves it, in the
places of NASNet's reduction cells (:mod:`lightning_nas.spaces.nasnet.space`), also those of the stem. All blocks side
by side are its output. A stack has N cells, of which the first halves in the second and the third stack.

A cell may have fewer blocks than there can be: the first decision is how many, and decisions about later
blocks are then not taken. So cells of every length are architectures of one space, and :meth:`PNASSpace.expansions`
gives those with one block more. There are :math:`(2 \cdot 8)^2 = 256` cells of one block, 136 that differ.

Differs from the authors' code as :mod:`lightning_nas.spaces.nasnet.space` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.ranges import Depth, Nodes, Pair, Side, Width
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.cells.genotype import KINDS
from lightning_nas.spaces.cells.pairwise import Node, canonical_order, chosen_nodes, decisions, node_choices
from lightning_nas.spaces.cells.place import Stem, Widths
from lightning_nas.spaces.nasnet.cells import NASNetCells
from lightning_nas.spaces.nasnet.form import NASNetForm
from lightning_nas.spaces.nasnet.networks import NASNetGenotype
from lightning_nas.spaces.nasnet.operations import PNAS
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

CELL = "cell"


class PNASSpace(NASNetCells):
    r"""Growing cell of PNAS (Liu et al., ECCV 2018, arXiv:1712.00559, section 3).

    One cell of up to five blocks; a block adds two of eight operations, each on any earlier state. The first decision,
    ``blocks``, is the number of blocks; then come ``cell_2_input_1``, ``cell_2_input_2``, ``cell_2_op_1`` and
    ``cell_2_op_2`` of each block. :meth:`expansions` gives the cells with one block more. There are
    :math:`(2 \cdot 8)^2 = 256` cells of one block, 136 of which differ. It has no supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes). The same cell keeps the size or halves it.

    Differs from the authors' code as :class:`~lightning_nas.spaces.nasnet.space.NASNetSpace` does.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8 (64 with stem="imagenet").
        in_channels: channels of the images.
        num_classes: width of the classifier.
        cells: cells of each of the three stacks.
        filters: channels of the first stack's cells.
        stem: "cifar", one 3x3 convolution; or "imagenet", one of stride 2 and two cells.
        stem_multiplier: channels of the convolution over ``filters`` ("cifar") or over 32 ("imagenet").
        dropout: probability before the classifier.
        blocks: largest number of blocks of a cell.
        operations: options of either operation, from :data:`lightning_nas.spaces.nasnet.operations.ALL`.
        evaluation: (cells, filters) of the network that is retrained; None retrains the network that was searched.

    Raises:
        InputError: a size out of range, or an unknown operation.

    Example:
        >>> space = PNASSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('s1')
        ('pnas_small', 13, 'output of cell k-1')
        >>> space = PNASSpace(image_size=8, cells=1, filters=4)
        >>> first = space.expansions()
        >>> len(first), len(space.expansions(first[0]))
        (136, 300)
    """

    @sized_by_images(
        small={
            "name": "pnas_small",
            "cells": 1,
            "filters": 4,
            "stem_multiplier": 1,
            "blocks": 3,
            "evaluation": (2, 8),
        },
        large={
            "cells": 3,
            "filters": 54,
            "stem": "imagenet",
            "stem_multiplier": 1,
            "dropout": 0.5,
            "evaluation": None,
        },
    )
    def __init__(
        self,
        name: str = "pnas",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        cells: Depth = 2,
        filters: Width = 24,
        stem: Stem = "cifar",
        stem_multiplier: Depth = 3,
        dropout: Probability = 0.0,
        blocks: Nodes = 5,
        operations: Sequence[str] = PNAS,
        evaluation: Pair | None = (3, 48),
    ) -> None:
        sizes = (image_size, in_channels, num_classes, cells, filters, stem, stem_multiplier, dropout)
        self._settle(name, NASNetForm(*sizes, apart=False), operations)
        self.blocks, self._evaluation = blocks, evaluation
        length = Decision("blocks", tuple(str(count) for count in range(1, blocks + 1)))
        self.decisions = (length, *decisions(CELL, blocks, operations))

    def evaluation(self) -> PNASSpace:
        """Return the space of the retrained network: the same cell, deeper and wider."""
        if self._evaluation is None:
            return self
        cells, filters = self._evaluation
        sizes: dict[str, Any] = asdict(replace(self.form, cells=cells, filters=filters))
        del sizes["apart"], sizes["pass_reduction"]
        return PNASSpace(self.name, **sizes, blocks=self.blocks, operations=self.cell_operations, evaluation=None)

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options; none for blocks beyond the number of blocks."""
        there = decision.node is None or int(decision.node.rpartition("_")[2]) < int(partial["blocks"]) + 2
        return decision.options if there else ()

    def _nodes(self, architecture: Architecture) -> tuple[Node, ...]:
        choices = dict(self.validate(architecture).choices)
        return chosen_nodes(CELL, int(choices["blocks"]), choices)

    def _architecture(self, nodes: Sequence[Node]) -> Architecture:
        """The canonical architecture of these blocks."""
        ordered, _ = canonical_order(nodes, ("",) * len(nodes))
        return Architecture.of(self.name, {"blocks": str(len(nodes))} | node_choices(CELL, ordered))

    def canonical(self, architecture: Architecture) -> Architecture:
        """Sort blocks, and the two halves of a block: every order gives the same network."""
        return self._architecture(self._nodes(architecture))

    def expansions(self, architecture: Architecture | None = None) -> list[Architecture]:
        """List all canonical architectures with one block more than this one (with one block if None), each once.

        The longest cells have no expansions.
        """
        nodes = self._nodes(architecture) if architecture else ()
        if len(nodes) == self.blocks:
            return []
        halves = itertools.product(self.cell_operations, range(len(nodes) + 2))
        pairs = itertools.combinations_with_replacement(halves, 2)
        return list(dict.fromkeys(self._architecture((*nodes, pair)) for pair in pairs))

    def genotypes(self, architecture: Architecture) -> dict[str, NASNetGenotype]:
        """The cell, as both kinds."""
        nodes = self._nodes(architecture)
        cell = NASNetGenotype(nodes, tuple(range(2, len(nodes) + 2)), ("add",) * len(nodes))
        return dict.fromkeys(KINDS, cell)

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """The one cell."""
        return {CELL: self.genotypes(architecture)["normal"].graph()}

    # -- cost ---------------------------------------------------------------------------------------------------

    def _possible_widths(self) -> Iterator[Widths]:
        for blocks in range(1, self.blocks + 1):
            yield dict.fromkeys(KINDS, blocks)
