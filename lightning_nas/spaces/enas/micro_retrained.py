"""Retrained networks of ENAS' micro space (arXiv:1802.03268), and the decisions of both networks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial

import networkx as nx
from pydantic import PositiveInt

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.cells import FactorizedReduction
from lightning_nas.ranges import Depth, Nodes, Side, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.cells.genotype import KINDS, Genotype, genotype_graphs
from lightning_nas.spaces.cells.pairwise import chosen_nodes, decisions, unused
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.cells.stacked import StackedCells
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.enas.micro_form import MicroForm
from lightning_nas.spaces.enas.micro_networks import retrained_cell
from lightning_nas.spaces.enas.operations import MICRO, enas_auxiliary
from lightning_nas.spaces.meanings import pair_meaning
from lightning_nas.spaces.sizes import InputShape, Probability, classes_of, sized_by_images


class MicroCells(SearchSpace):
    """Base class of both spaces of micro cells: their decisions.

    Attributes:
        form: sizes of the network.
    """

    form: MicroForm

    def _settle(self, name: str, form: MicroForm) -> None:
        self.name, self.form = name, form
        self.input_shape, self.num_classes = (form.in_channels, form.image_size, form.image_size), form.num_classes
        self.decisions = tuple(decision for kind in KINDS for decision in decisions(kind, form.nodes, MICRO))

    def genotypes(self, architecture: Architecture) -> dict[str, Genotype]:
        """Read both kinds of cell; their outputs are the loose ends."""
        choices = dict(self.validate(architecture).choices)
        return {kind: _genotype(kind, self.form.nodes, choices) for kind in KINDS}

    def meaning(self, option: str) -> str:
        return pair_meaning(option)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Stem, cells, classifier."""
        self.validate(architecture)
        cells = f"{self.form.layers + 2} cells\n{self.form.channels} channels"
        return chain_graph([("stem", "stem"), ("cells", cells), ("head", f"{self.num_classes} classes")])

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Both kinds of cell."""
        return genotype_graphs(self.genotypes(architecture))


class ENASMicroNetworks(MicroCells):
    """Networks that ENAS retrains in its micro space (arXiv:1802.03268): architectures to name and train, no supernet.

    Decisions are those of :class:`~lightning_nas.spaces.enas.micro.ENASMicroSpace`. Paths are dropped with a
    probability that rises with depth: in cell l of L it is l / L of the probability that is set.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 8.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: number of cells, without the two reduction cells.
        nodes: nodes of a cell.
        channels: channels of the first cells, an even number.
        dropout: probability before the classifier.

    Raises:
        InputError: a size out of range.

    Example:
        >>> space = ENASMicroNetworks(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('s1')
        ('enas_micro_small', 16, 'output of cell k-1')
        >>> import torch
        >>> network = space.network(space.sample(torch.Generator().manual_seed(0)))
        >>> tuple(network(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={"name": "enas_micro_small", "layers": 3, "nodes": 2, "channels": 8, "dropout": 0.0},
    )
    def __init__(
        self,
        name: str = "enas_micro",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        layers: Depth = 15,
        nodes: Nodes = 5,
        channels: Width = 36,
        dropout: Probability = 0.2,
    ) -> None:
        self._settle(name, MicroForm(image_size, in_channels, num_classes, layers, nodes, channels, dropout))

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> StackedCells:
        """Stem, cells, classifier; the auxiliary one after the cell that follows the second reduction cell."""
        genotypes, form = self.genotypes(architecture), self.form
        widths, classes = _widths(genotypes), classes_of(num_classes, self.num_classes)
        places, seen = form.retrained(widths), form.reductions[1] + 1
        shares = [(i + 1) / len(places) for i in range(len(places))]
        cells = [
            retrained_cell(place, genotypes[place.kind], share) for place, share in zip(places, shares, strict=True)
        ]
        if auxiliary and (places[seen].size - 5) // 3 != 1:
            raise InputError(
                f"the auxiliary classifier of {self.name} needs images of 29 to 40 pixels, got {form.image_size}"
            )
        width, last = places[seen].channels * widths[places[seen].kind], places[-1]
        extra = enas_auxiliary(width, classes) if auxiliary else None
        head = form.make_head(last.channels * widths[last.kind], classes)
        return StackedCells(form.make_stem(), cells, {}, head, extra, seen)

    # -- cost ---------------------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Operation]:
        """Operations of all pairs of cells; a cell has from one loose end to all states but one."""
        made: dict[str, Operation] = {}
        for normal, reduce in itertools.product(range(1, self.form.nodes + 2), repeat=2):
            widths = {"normal": normal, "reduce": reduce}
            places = self.form.retrained(widths)
            made |= self._fixed(places, widths)
            for place in places:
                made |= dict(_operation(place, option, j) for j in (0, 2) for option in MICRO if place.key(option, j))
                made |= dict([_halving(place)] if place.halves else [])
        return made

    def _fixed(self, places: Sequence[CellPlace], widths: Mapping[str, int]) -> list[tuple[str, Operation]]:
        """Stem, calibrations of inputs, classifier."""
        made = [self.form.stem()]
        for place in places:
            channels, size = place.channels, place.inputs[1][1]
            base = Operation(partial(relu_conv_bn, channels, channels), (channels, size, size))
            calibrations = [calibration for calibration in place.calibrations() if calibration]
            made += [*calibrations, (f"base {channels}x{size}x{size}", base)]
        last = places[-1]
        return [*made, self.form.head(last.channels * widths[last.kind], last.size)]

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Calibrations of inputs, two operations a node, and a halving for each input that is a loose end."""
        genotypes = self.genotypes(architecture)
        widths = _widths(genotypes)
        places = self.form.retrained(widths)
        keys = [key for key, _ in self._fixed(places, widths)]
        for place in places:
            genotype = genotypes[place.kind]
            keys += [key for node in genotype.nodes for option, state in node for key in place.key(option, state)]
            keys += [_halving(place)[0] for state in genotype.concat if place.edge(state)[1] == 2]
        return tuple(keys)


def _genotype(kind: str, nodes: int, choices: Mapping[str, str]) -> Genotype:
    made = chosen_nodes(kind, nodes, choices)
    return Genotype(made, unused(made))


def _widths(genotypes: Mapping[str, Genotype]) -> dict[str, int]:
    return {kind: len(genotype.concat) for kind, genotype in genotypes.items()}


def _operation(place: CellPlace, option: str, state: int) -> tuple[str, Operation]:
    """Cost key and operation of an option that is not free."""
    size = place.edge(state)[0]
    return place.key(option, state)[0], Operation(partial(place.operation, option, state), (place.channels, size, size))


def _halving(place: CellPlace) -> tuple[str, Operation]:
    """Cost key and operation of the halving of an input that goes to the output."""
    channels, size = place.channels, place.inputs[1][1]
    build = partial(FactorizedReduction, channels, channels, relu=False)
    return f"halve {channels}x{size}x{size} -> {channels}", Operation(build, (channels, size, size))
