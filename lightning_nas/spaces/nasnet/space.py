r"""The search space of NASNet (Zoph, Vasudevan, Shlens, Le, CVPR 2018, arXiv:1707.07012).

Two kinds of cell, normal and reduction, of five blocks. A block takes five decisions: two earlier states, the operation
on either, and how the two results become one state, by sum or concatenation. States that no block takes are
concatenated to the output of the cell. A controller takes :math:`2 \cdot 5B` decisions, those of the normal cell first.

Everything else is set by hand: an image goes through the stem, three stacks of N normal cells, and a reduction cell,
which doubles the channels, before the second and the third stack. Networks are named N @ F by N and the channels of
the last cell (:meth:`NASNetSpace.size`). Cells are searched in a small network and put into larger ones, for CIFAR
(``evaluation``) or ImageNet (``search_space=nasnet_imagenet``), by the same decisions.

AmoebaNet (Real et al., AAAI 2019, arXiv:1802.01548) searches this space with 8 operations
(:data:`lightning_nas.spaces.nasnet.operations.AMOEBANET`)
and without the last decision (``joins=["add"]``). Its two mutations are
:meth:`~lightning_nas.spaces.base.SearchSpace.mutate`'s: a "hidden state mutation" changes an ``input`` decision to
another earlier state, an "operation mutation" an ``op`` decision; both kinds of cell, blocks and slots are equally
likely. (The first block has two states to choose from like any other; no choice makes a cycle.)

Differs from the authors' code: paddings are symmetric where TensorFlow's are not, and batch norms average with torch's
momentum. The code has no concatenating blocks; here a state of twice the cell's channels goes unchanged into
operations and output.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ranges import Depth, Nodes, Pair, Side, Width
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.cells.genotype import KINDS
from lightning_nas.spaces.cells.pairwise import canonical_order, chosen_nodes, decisions, node_choices, unused
from lightning_nas.spaces.cells.place import Stem, Widths
from lightning_nas.spaces.nasnet.cells import JOINS, NASNetCells
from lightning_nas.spaces.nasnet.form import NASNetForm
from lightning_nas.spaces.nasnet.networks import NASNetGenotype
from lightning_nas.spaces.nasnet.operations import NASNET
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class NASNetSpace(NASNetCells):
    r"""Normal and reduction cell of NASNet (Zoph et al., CVPR 2018, arXiv:1707.07012, section 3.1).

    A cell has five blocks of five decisions: ``normal_2_input_1`` and ``_input_2`` (``s0`` and ``s1`` are the outputs
    of the two cells before, ``s2`` and above are blocks), ``_op_1`` and ``_op_2`` (one of 13 operations), and
    ``_join``, how the two results become one state ("add" or "concat"). States that no block takes are concatenated
    to the output. A controller takes :math:`2 \cdot 5B` decisions, those of the normal cell first. It has no
    supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes): stem, three stacks of N normal cells, a
    reduction cell before the second and the third stack. AmoebaNet (arXiv:1802.01548) searches this space with 8
    operations (:data:`~lightning_nas.spaces.nasnet.operations.AMOEBANET`) and ``joins=["add"]``.

    Differs from the authors' code: paddings are symmetric where TensorFlow's are not, and batch norms average with
    torch's momentum.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8 (64 with stem="imagenet").
        in_channels: channels of the images.
        num_classes: width of the classifier.
        cells: normal cells of each of the three stacks.
        filters: channels of the first stack's cells.
        stem: "cifar", one 3x3 convolution; or "imagenet", one of stride 2 and two reduction cells.
        stem_multiplier: channels of the convolution over ``filters`` ("cifar") or over 32 ("imagenet").
        dropout: probability before the classifier.
        pass_reduction: the cell after a reduction cell has as its state 0 that of the reduction cell, as in NASNet-A
            Large.
        blocks: blocks of a cell.
        operations: options of either operation, from :data:`lightning_nas.spaces.nasnet.operations.ALL`.
        joins: options of the join, "add" and "concat"; with one of them there is no decision.
        evaluation: (cells, filters) of the network that is retrained; None retrains the network that was searched.

    Raises:
        InputError: a size out of range, or an unknown operation.

    Example:
        >>> space = NASNetSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('s1')
        ('nasnet_small', 30, 'output of cell k-1')
        >>> import torch
        >>> space = NASNetSpace(image_size=8, in_channels=1, cells=1, filters=4, blocks=2)
        >>> a = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={
            "name": "nasnet_small",
            "cells": 1,
            "filters": 4,
            "stem_multiplier": 1,
            "blocks": 3,
            "evaluation": (2, 8),
        },
        large={
            "cells": 4,
            "filters": 44,
            "stem": "imagenet",
            "stem_multiplier": 1,
            "dropout": 0.5,
            "evaluation": None,
        },
    )
    def __init__(
        self,
        name: str = "nasnet",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        cells: Depth = 2,
        filters: Width = 32,
        stem: Stem = "cifar",
        stem_multiplier: Depth = 3,
        dropout: Probability = 0.0,
        pass_reduction: bool = False,
        blocks: Nodes = 5,
        operations: Sequence[str] = NASNET,
        joins: Sequence[str] = JOINS,
        evaluation: Pair | None = (6, 32),
    ) -> None:
        sizes = (image_size, in_channels, num_classes, cells, filters, stem, stem_multiplier, dropout, pass_reduction)
        self._settle(name, NASNetForm(*sizes), operations)
        if not joins or not set(joins) <= set(JOINS):
            raise InputError(f"blocks of {name} join by {' or '.join(JOINS)}, got joins={list(joins)}")
        self.blocks, self.joins, self._evaluation = blocks, tuple(joins), evaluation
        self.decisions = tuple(decision for kind in KINDS for decision in self._decisions(kind))

    def _decisions(self, kind: str) -> Iterator[Decision]:
        yield from decisions(kind, self.blocks, self.cell_operations, self.joins)

    def evaluation(self) -> NASNetSpace:
        """Return the space of the retrained network: the same cells, deeper and wider."""
        if self._evaluation is None:
            return self
        cells, filters = self._evaluation
        sizes: dict[str, Any] = asdict(replace(self.form, cells=cells, filters=filters))
        del sizes["apart"]
        sizes |= {"blocks": self.blocks, "operations": self.cell_operations, "joins": self.joins}
        return type(self)(self.name, **sizes, evaluation=None)

    # -- architectures ------------------------------------------------------------------------------------------

    def genotypes(self, architecture: Architecture) -> dict[str, NASNetGenotype]:
        """Both kinds of cell."""
        choices = dict(self.validate(architecture).choices)
        return {kind: self._genotype(kind, choices) for kind in KINDS}

    def _genotype(self, kind: str, choices: Mapping[str, str]) -> NASNetGenotype:
        nodes = chosen_nodes(kind, self.blocks, choices)
        joins = (choices.get(f"{kind}_{i}_join", self.joins[0]) for i in range(2, self.blocks + 2))
        return NASNetGenotype(nodes, unused(nodes), tuple(joins))

    def architecture(self, genotypes: Mapping[str, NASNetGenotype]) -> Architecture:
        """Return the architecture whose :meth:`genotypes` these are.

        Raises:
            InvalidArchitecture: this space has no such cells.
        """
        choices: dict[str, str] = {}
        for kind, genotype in genotypes.items():
            choices |= node_choices(kind, genotype.nodes) | self._beside(kind, genotype)
        return self.validate(choices)

    def _beside(self, kind: str, genotype: NASNetGenotype) -> dict[str, str]:
        """Choices other than inputs and operations."""
        several = len(self.joins) > 1
        return {f"{kind}_{i}_join": join for i, join in enumerate(genotype.joins, start=2) if several}

    def canonical(self, architecture: Architecture) -> Architecture:
        """Sort blocks, and the two halves of a block: every order gives the same network."""
        made = {}
        for kind, genotype in self.genotypes(architecture).items():
            marks = [f"{join} {i in genotype.concat}" for i, join in enumerate(genotype.joins, start=2)]
            nodes, order = canonical_order(genotype.nodes, marks)
            renamed = {0: 0, 1: 1} | {old + 2: new for new, old in enumerate(order, start=2)}
            concat = tuple(sorted(renamed[state] for state in genotype.concat))
            made[kind] = NASNetGenotype(nodes, concat, tuple(genotype.joins[old] for old in order))
        return self.architecture(made)

    # -- cost ---------------------------------------------------------------------------------------------------

    def _possible_widths(self) -> Iterator[Widths]:
        for pair in itertools.product(range(1, self._most() + 1), repeat=len(KINDS)):
            yield dict(zip(KINDS, pair, strict=True))

    def _most(self) -> int:
        """Width of the widest output: all blocks and one input, since the first block takes the other."""
        return 1 + self.blocks * (2 if "concat" in self.joins else 1)

    def _searched(self) -> dict[str, Operation]:
        return self.form.searched(self.cell_operations, wide="concat" in self.joins, inputs=True)
