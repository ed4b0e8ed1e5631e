"""Any cell in the network of DARTS (arXiv:1806.09055), to compare cells of other papers under equal conditions.

Wider than what DARTS searches: more nodes, more operations, up to two operations on an edge, nodes with any number of
inputs or none, and any nodes as the output. A space of networks to name and retrain; it has no supernet.

Differs from FairDARTS (arXiv:1911.12126): paths are dropped operation by operation as in DARTS, not node by node.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.cells import FOREIGN, OPTIONS
from lightning_nas.ranges import Depth, Nodes, Width
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.cells.genotype import KINDS, Genotype
from lightning_nas.spaces.cells.place import Stem
from lightning_nas.spaces.darts.form import CellsSpace, Form
from lightning_nas.spaces.darts.networks import edges
from lightning_nas.spaces.sides import ImageSize, pair, size_of
from lightning_nas.spaces.sizes import InputShape, sized_by_images

ALL = (*OPTIONS[1:], *FOREIGN)


class DARTSCellSpace(CellsSpace):
    """Normal and reduction cell of any wiring in the network of DARTS (arXiv:1806.09055), to name and retrain.

    Wider than :class:`~lightning_nas.spaces.darts.space.DARTSSpace`, and without a supernet: it holds the cells of
    other papers. One decision for each edge (``normal_1_2``: into node 1 from state 2): "none", an operation, or two
    operations joined by "+". A node without any operation is not there, and nothing is decided about edges from it.
    The last decision, ``normal_concat``, lists the states that form the output.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 4 (32 with stem="imagenet").
        in_channels: channels of the images.
        num_classes: width of the classifier.
        cells: number of cells, at least 3.
        channels: channels of the first cells, an even number.
        stem: "cifar", one 3x3 convolution; or "imagenet", three of stride 2.
        pool_norm: pools have a batch norm, as in MdeNAS' networks.
        nodes: largest number of nodes of a cell.
        operations: options of an edge.

    Raises:
        InputError: a size out of range, or an unknown operation.

    Example:
        >>> space = DARTSCellSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('conv_7x1_1x7+conv_7x1_1x7')
        ('darts_cell', 42, '7x1 and 1x7 convolutions in sequence plus 7x1 and 1x7 convolutions in sequence')
        >>> space = DARTSCellSpace(nodes=1, cells=3, channels=4)
        >>> parallel, one = {"normal_0_0": "skip_connect+sep_conv_3x3", "normal_0_1": "none"}, {"normal_concat": "2"}
        >>> reduce = {"reduce_0_0": "max_pool_3x3", "reduce_0_1": "none", "reduce_concat": "2"}
        >>> space.genotypes(space.validate(parallel | one | reduce))["normal"].nodes
        ((('skip_connect', 0), ('sep_conv_3x3', 0)),)
    """

    @sized_by_images(
        small={"cells": 5, "channels": 8},
        large={"stem": "imagenet", "cells": 14, "channels": 48},
    )
    def __init__(
        self,
        name: str = "darts_cell",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        cells: Depth = 20,
        channels: Width = 36,
        stem: Stem = "cifar",
        pool_norm: bool = False,
        nodes: Nodes = 5,
        operations: Sequence[str] = ALL,
    ) -> None:
        if unknown := [option for option in operations if option not in ALL]:
            raise InputError(f"cells have no operation {shown(unknown[0])}; legal: {', '.join(ALL)}")
        self.name = name
        size = size_of(image_size)
        self.form = Form(size, in_channels, num_classes, cells, channels, stem, affine=True, pool_norm=pool_norm)
        self.input_shape, self.num_classes = (in_channels, *pair(size)), num_classes
        self._nodes, self._operations = nodes, tuple(operations)
        pairs = itertools.combinations_with_replacement(operations, 2)
        self._on_edge = ("none", *operations, *("+".join(pair) for pair in pairs))
        self.decisions = tuple(decision for kind in KINDS for decision in self._decisions(kind))

    def _decisions(self, kind: str) -> list[Decision]:
        made = [Decision(f"{kind}_{node}_{state}", self._on_edge) for node, state in edges(self._nodes)]
        return [*made, Decision(f"{kind}_concat", _subsets(range(2, 2 + self._nodes)))]

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options: no edges from absent nodes, at least one node, outputs among the nodes there are."""
        kind, _, place = decision.name.partition("_")
        there = [node for node in range(self._nodes) if _entries(kind, node, partial)]
        if place == "concat":
            return _subsets([node + 2 for node in there])
        node, state = map(int, place.split("_"))
        if state > 1 and state - 2 not in there:
            return ()
        # the first node alone may always have inputs, so the last to decide on one is the last node's second edge
        last = (node, state) == (self._nodes - 1, 1) and not there
        return self._on_edge[1:] if last else self._on_edge

    # -- networks -----------------------------------------------------------------------------------------------

    def genotypes(self, architecture: Architecture) -> dict[str, Genotype]:
        """Both kinds of cell."""
        choices = dict(self.validate(architecture).choices)
        return {
            kind: Genotype(
                tuple(_entries(kind, node, choices) for node in range(self._nodes)),
                tuple(int(state) for state in choices[f"{kind}_concat"].split(",")),
            )
            for kind in KINDS
        }

    def architecture(self, genotypes: Mapping[str, Genotype]) -> Architecture:
        """Return the architecture whose :meth:`genotypes` these are.

        Raises:
            InvalidArchitecture: this space has no such cells.
        """
        choices: dict[str, str] = {}
        for kind, genotype in genotypes.items():
            nodes = dict(enumerate(genotype.nodes))
            for node, state in edges(self._nodes):
                if state < 2 or nodes.get(state - 2):
                    taken = [option for option, where in nodes.get(node, ()) if where == state]
                    choices[f"{kind}_{node}_{state}"] = "+".join(sorted(taken, key=ALL.index)) or "none"
            choices[f"{kind}_concat"] = ",".join(map(str, genotype.concat))
        return self.validate(choices)

    # -- cost ---------------------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Operation]:
        """Every operation at every place, and stem, preprocessing and classifier for every number of outputs."""
        counts = itertools.product(range(1, self._nodes + 1), repeat=len(KINDS))
        fixed = [dict(self.form.fixed(dict(zip(KINDS, widths, strict=True)))) for widths in counts]
        return {key: operation for made in fixed for key, operation in made.items()} | self.form.searched(
            self._operations
        )


def _entries(kind: str, node: int, choices: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Operations of a node that are chosen so far."""
    chosen = ((state, choices.get(f"{kind}_{node}_{state}", "none")) for state in range(node + 2))
    return tuple((option, state) for state, options in chosen if options != "none" for option in options.split("+"))


def _subsets(states: Sequence[int]) -> tuple[str, ...]:
    """List all subsets that are not empty."""
    sizes = range(1, len(states) + 1)
    return tuple(",".join(map(str, some)) for size in sizes for some in itertools.combinations(states, size))
