r"""The convolutional search space of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055).

Two kinds of cell, normal and reduction, with four nodes each; a node adds two operations on two different earlier
states. That is :math:`\prod_{k=1}^{4} \binom{k+1}{2} \cdot 7^8 = 1{,}037{,}664{,}180` cells of a kind.

The searched and the retrained network have one architecture and two sizes: 8 cells, 16 channels and batch norms without
scale and shift against 20 cells and 36 channels (14 and 48 on ImageNet); see :meth:`DARTSSpace.evaluation`.

Differs from the authors' code: a node's two operations stand in the order of the states they work on, not of their
strength, so that one cell has one name. Sides of odd length are allowed.

With fewer ``operations`` it is a space of R-DARTS (Zela et al., ICLR 2020, arXiv:1909.09656, section 3): S2 has
separable 3x3 convolutions and skips on every edge, S3 also "none".
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from pydantic import PositiveInt
from torch import Tensor

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.cells import OPTIONS
from lightning_nas.ops.mixed import Mix, plain
from lightning_nas.ranges import Depth, Pair, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, Taken, WeightSharingSpace
from lightning_nas.spaces.cells.genotype import KINDS, Genotype
from lightning_nas.spaces.cells.place import Stem
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.form import CellsSpace, Form
from lightning_nas.spaces.darts.networks import DARTSNetwork, DARTSSupernet, edges
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import ImageSize, pair, size_of
from lightning_nas.spaces.sizes import InputShape, sized_by_images

NODES = 4
EDGES = edges(NODES)
WIDTHS = dict.fromkeys(KINDS, NODES)
NONE = "none"  # an architecture has no missing connection: a supernet may mix it, and no node takes it


class DARTSSpace(CellsSpace, WeightSharingSpace):
    r"""Convolutional cells of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055, sections 2.1 and 3.1.1).

    Two kinds of cell, normal and reduction, with four nodes each; a node is the sum of two operations on two different
    earlier states: :math:`\prod_{k=1}^{4} \binom{k+1}{2} \cdot 7^8 \approx 1.0 \cdot 10^9` cells of a kind, about
    :math:`10^{18}` architectures. Decisions of a node: ``normal_1_inputs`` (the two states; the first node has no
    choice), then ``normal_1_first`` and ``normal_1_second``, the operation on either. ``0,2`` are states 0 and 2:
    states 0 and 1 are the outputs of the two cells before, 2 and above are nodes.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are two groups, "normal" and
    "reduce", with a row for each of the 14 edges: the edges into node 0 first, then those into node 1, ...

    The searched and the retrained network differ in size: 8 cells of 16 channels and batch norms without scale against
    20 cells of 36 channels (14 of 48 on ImageNet), see :meth:`evaluation`.

    Differs from the authors' code: the two operations of a node are ordered by the states they work on, not by
    strength, so that one cell has one name. Images of odd sizes are allowed.

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
        affine: batch norms of the cells learn scale and shift, and pools have none, as in a stand-alone network.
        pool_norm: pools always have a batch norm, as in MdeNAS' networks.
        evaluation: (cells, channels) of the network that is retrained; None retrains the network that was searched.
        operations: options of every edge, at least two; "none" is mixed by a supernet and never chosen.
        fused: the supernet runs in its fused form (``ops/fused_cells.py``): the same numbers and state, faster.

    Raises:
        InputError: a size out of range, an unknown or repeated operation, or none to choose.

    Example:
        >>> space = DARTSSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('dil_conv_5x5')
        ('darts', 22, '5x5 dilated convolution')
        >>> import torch
        >>> space = DARTSSpace(image_size=8, in_channels=1, cells=3, channels=4)
        >>> a = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
        >>> s2 = DARTSSpace("darts_s2", operations=("skip_connect", "sep_conv_3x3"))
        >>> s2.gate_shapes["normal"], s2.decisions[0].options
        ((14, 2), ('skip_connect', 'sep_conv_3x3'))
    """

    @sized_by_images(
        small={"cells": 3, "channels": 4, "evaluation": (5, 8)},
        large={"stem": "imagenet", "evaluation": (14, 48)},
    )
    def __init__(
        self,
        name: str = "darts",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        cells: Depth = 8,
        channels: Width = 16,
        stem: Stem = "cifar",
        affine: bool = False,
        pool_norm: bool = False,
        evaluation: Pair | None = (20, 36),
        operations: Sequence[str] = OPTIONS,
        fused: bool = True,
    ) -> None:
        self.name, self.mixed = name, _checked(operations)
        self.chosen = tuple(option for option in self.mixed if option != NONE)
        size = size_of(image_size)
        self.form = Form(size, in_channels, num_classes, cells, channels, stem, affine, pool_norm)
        self.input_shape, self.num_classes = (in_channels, *pair(size)), num_classes
        self._evaluation, self._fused = evaluation, fused
        self.decisions = tuple(decision for kind in KINDS for decision in _decisions(kind, self.chosen))
        self.gate_shapes = dict.fromkeys(KINDS, (len(EDGES), len(self.mixed)))
        self.gate_options = dict.fromkeys(KINDS, self.mixed)
        self._columns = [self.mixed.index(option) for option in self.chosen]

    def evaluation(self) -> DARTSSpace:
        """Return the space of the retrained network: deeper, wider, and with batch norms that learn."""
        if self._evaluation is None:
            return self
        cells, channels = self._evaluation
        return self._sized(cells=cells, channels=channels, affine=True)

    def deeper(self, cells: int) -> DARTSSpace:
        """The same choices in a network with ``cells`` more cells."""
        return self._sized(cells=self.form.cells + cells)

    def _sized(self, *, cells: int, channels: int | None = None, affine: bool | None = None) -> DARTSSpace:
        form, evaluation = replace(self.form, cells=cells), self._evaluation
        if channels is not None and affine is not None:
            form, evaluation = replace(form, channels=channels, affine=affine), None
        return DARTSSpace(self.name, **vars(form), evaluation=evaluation, operations=self.mixed, fused=self._fused)

    # -- networks -----------------------------------------------------------------------------------------------

    def genotypes(self, architecture: Architecture) -> dict[str, Genotype]:
        """Both kinds of cell."""
        choices = dict(self.validate(architecture).choices)
        return {kind: _genotype(kind, choices) for kind in KINDS}

    def supernet(self, mix: Mix | None = None) -> DARTSSupernet:
        """The supernet: every edge of every cell mixes all operations."""
        return self.form.supernet(self.mixed, NODES, mix or plain, fused=mix is None and self._fused)

    def nodes(self, group: str) -> tuple[int, ...]:
        """Two edges lead to the first node, three to the second, ..."""
        del group
        return tuple(node for node, _ in EDGES)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one an edge: its operation, or "none"; rows of zeros in a space without "none"."""
        chosen = {}
        for kind, genotype in self.genotypes(architecture).items():
            taken = {(node, state): o for node, entries in enumerate(genotype.nodes) for o, state in entries}
            names = [taken.get(edge, NONE) for edge in EDGES]
            chosen[kind] = [self.mixed.index(name) if name in self.mixed else None for name in names]
        return Gates.one_hot(chosen, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The paper's rule: for each node the two edges with the most probable operation, "none" ignored.

        Ties go to the first.
        """
        choices: dict[str, str] = {}
        for kind in KINDS:
            strengths, best = (t.tolist() for t in probabilities[kind][:, self._columns].max(-1))
            for node in range(NODES):
                kept = _strongest(strengths, node)
                if node:
                    choices[f"{kind}_{node}_inputs"] = ",".join(str(EDGES[e][1]) for e in kept)
                choices |= {f"{kind}_{node}_{n}": self.chosen[best[e]] for n, e in zip(_ORDER, kept, strict=True)}
        return self.validate(choices)

    def parts(self) -> tuple[tuple[Taken, ...], ...]:
        """A part for each node: two of the edges that lead to it, each with an operation other than "none"."""
        made = []
        for kind in KINDS:
            for node in range(NODES):
                edges = [e for e, edge in enumerate(EDGES) if edge[0] == node]
                made.append(
                    tuple(
                        ((kind, first, one), (kind, second, other))
                        for first, second in itertools.combinations(edges, 2)
                        for one, other in itertools.product(self._columns, repeat=2)
                    )
                )
        return tuple(made)

    def derive_above(self, weights: Mapping[str, Tensor], threshold: float) -> Architecture:
        """Apply FairDARTS' rule (arXiv:1911.12126): a node keeps operations above the threshold.

        Only its two strongest edges count, and at most two operations an edge, as many as :meth:`wider` can
        represent. A node without any is not there; a kind of cell in which no operation reaches the threshold is that
        of :meth:`derive`.
        """
        own, wider = self.genotypes(self.derive(weights)), self.wider()
        return wider.architecture({kind: self._above(weights[kind], threshold) or own[kind] for kind in KINDS})

    def _above(self, weights: Tensor, threshold: float) -> Genotype | None:
        """Make a kind of cell by FairDARTS' rule; None if it would have no node."""
        rows = weights[:, self._columns].tolist()
        nodes: list[tuple[tuple[str, int], ...]] = []
        for node in range(NODES):
            entries: list[tuple[str, int]] = []
            for e in _strongest([max(row) for row in rows], node):
                state, strong = EDGES[e][1], [i for i, weight in enumerate(rows[e]) if weight >= threshold]
                if state < 2 or nodes[state - 2]:
                    entries += [(self.chosen[i], state) for i in sorted(sorted(strong, key=lambda i: -rows[e][i])[:2])]
            nodes.append(tuple(entries))
        there = tuple(number for number, entries in enumerate(nodes, start=2) if entries)
        return Genotype(tuple(nodes), there) if there else None

    def wider(self) -> DARTSCellSpace:
        """Return the space of cells of any wiring, in the size that is retrained."""
        form = asdict(self.evaluation().form)
        return DARTSCellSpace(**{size: value for size, value in form.items() if size != "affine"})

    def extract(self, supernet: Supernet, architecture: Architecture) -> DARTSNetwork:
        """The chosen operations with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        genotypes = self.genotypes(architecture)
        places = {}  # of (cell, edge, operation) in the supernet: its number in the network's cell
        for cell, shape in enumerate(self.form.shapes(WIDTHS)):
            entries = ((n, o, s) for n, node in enumerate(genotypes[shape.kind].nodes) for o, s in node)
            for number, (node, option, state) in enumerate(entries):
                places[str(cell), str(EDGES.index((node, state))), option] = number
        state_dict = {}
        for name, value in supernet.state_dict().items():
            part, *path = name.split(".", 5)
            if part == "cells" and path[1] == "edges":
                cell_, _, edge, option, rest = path
                if (cell_, edge, option) not in places:
                    continue
                name = f"cells.{cell_}.operations.{places[cell_, edge, option]}.{rest}"
            state_dict[name] = value
        network.load_state_dict(state_dict)
        return network

    # -- cost ---------------------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Operation]:
        """Stem, preprocessing, classifier, and every operation at every distinct place."""
        return dict(self.form.fixed(WIDTHS)) | self.form.searched(self.chosen)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Stem, preprocessing and classifier are always run; an option adds its operation in every cell of the kind."""
        rows = {}
        for kind in KINDS:
            shapes = [shape for shape in self.form.shapes(WIDTHS) if shape.kind == kind]
            rows[kind] = tuple(
                tuple(tuple(key for shape in shapes for key in shape.key(option, state)) for option in self.mixed)
                for _, state in EDGES
            )
        return tuple(key for key, _ in self.form.fixed(WIDTHS)), rows


def _strongest(strengths: Sequence[float], node: int) -> list[int]:
    """Find the two strongest edges into a node."""
    leading = [e for e, edge in enumerate(EDGES) if edge[0] == node]
    return sorted(sorted(leading, key=lambda e: -strengths[e])[:2])


def _checked(operations: Sequence[str]) -> tuple[str, ...]:
    """The operations, if they are of DARTS', each once, and leave a choice."""
    mixed = tuple(operations)
    if wrong := [option for option in mixed if option not in OPTIONS or mixed.count(option) > 1]:
        told = "twice" if wrong[0] in OPTIONS else "which DARTS' cells do not have"
        raise InputError(f"operations: {shown(wrong[0])}, {told}; legal, each once: {', '.join(OPTIONS)}")
    if len(set(mixed) - {NONE}) < 2:
        raise InputError(f"operations leave nothing to choose: {shown(list(mixed))}; give two or more besides {NONE!r}")
    return mixed


_ORDER = ("first", "second")


def _decisions(kind: str, options: tuple[str, ...]) -> list[Decision]:
    made = []
    for node in range(NODES):
        pairs = tuple(f"{i},{j}" for i, j in itertools.combinations(range(node + 2), 2))
        if len(pairs) > 1:
            made.append(Decision(f"{kind}_{node}_inputs", pairs))
        made += [Decision(f"{kind}_{node}_{which}", options) for which in _ORDER]
    return made


def _genotype(kind: str, choices: Mapping[str, str]) -> Genotype:
    nodes = []
    for node in range(NODES):
        states = choices.get(f"{kind}_{node}_inputs", "0,1").split(",")
        nodes.append(
            tuple((choices[f"{kind}_{node}_{which}"], int(state)) for which, state in zip(_ORDER, states, strict=True))
        )
    return Genotype(tuple(nodes), tuple(range(2, 2 + NODES)))
