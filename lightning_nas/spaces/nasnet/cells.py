"""Base class of spaces whose cells stand in a NASNet network: networks, pictures, cost."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import networkx as nx

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, shown
from lightning_nas.spaces.base import Keys, Operation, SearchSpace
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.spaces.cells.place import Widths
from lightning_nas.spaces.cells.stacked import StackedCells, stacked_cells_graph
from lightning_nas.spaces.meanings import pair_meaning
from lightning_nas.spaces.nasnet.form import NASNetForm
from lightning_nas.spaces.nasnet.networks import NASNetGenotype
from lightning_nas.spaces.nasnet.operations import ALL

JOINS = ("add", "concat")


class NASNetCells(SearchSpace):
    """Base class of spaces whose architectures are cells in the network of NASNet.

    Attributes:
        form: sizes of the network.
        cell_operations: names of the operations of cells.
    """

    form: NASNetForm
    cell_operations: tuple[str, ...]

    def _settle(self, name: str, form: NASNetForm, operations: Sequence[str]) -> None:
        if unknown := [option for option in operations if option not in ALL]:
            raise InputError(f"cells of {name} have no operation {shown(unknown[0])}; legal: {', '.join(ALL)}")
        if not operations:
            raise InputError(f"cells of {name} need operations, got none; legal: {', '.join(ALL)}")
        self.name, self.form, self.cell_operations = name, form, tuple(operations)
        self.input_shape, self.num_classes = (form.in_channels, form.image_size, form.image_size), form.num_classes

    @abstractmethod
    def genotypes(self, architecture: Architecture) -> dict[str, NASNetGenotype]:
        """Read the cells that keep the size ("normal") and those that halve it ("reduce")."""

    @abstractmethod
    def _possible_widths(self) -> Iterable[Widths]:
        """All pairs of widths of both kinds of cell."""

    def size(self, architecture: Architecture) -> str:
        """Name the size as the paper does, "N @ F": cells of a stack, and channels of the last cell.

        >>> from lightning_nas import zoo
        >>> zoo.space("nasnet_a_mobile").size(zoo.load("nasnet_a_mobile"))
        '4 @ 1056'
        """
        return f"{self.form.cells} @ {4 * self.form.filters * self.genotypes(architecture)['normal'].widths}"

    def meaning(self, option: str) -> str:
        return pair_meaning(option)

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> StackedCells:
        """Stem, cells, classifier; the auxiliary one before the last reduction cell."""
        return self.form.network(self.genotypes(architecture), num_classes, auxiliary)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Stem, cells, classifier: a box for all cells of a kind that follow one another."""
        widths = {kind: genotype.widths for kind, genotype in self.genotypes(architecture).items()}
        return stacked_cells_graph(self.form.stem, self.form.places(widths), widths, self.num_classes)

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """Both kinds of cell."""
        names = {"normal": "normal cell", "reduce": "reduction cell"}
        return {names[kind]: genotype.graph() for kind, genotype in self.genotypes(architecture).items()}

    # -- cost ---------------------------------------------------------------------------------------------------

    def _searched(self) -> dict[str, Operation]:
        """Operations of cells, at every place."""
        return self.form.searched(self.cell_operations, wide=False, inputs=False)

    def operations(self) -> dict[str, Operation]:
        """Every operation on every state, and stem, calibrations and classifier for every width of outputs."""
        fixed = [dict(self.form.fixed(widths)) for widths in self._possible_widths()]
        return {key: operation for made in fixed for key, operation in made.items()} | self._searched()

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and the operations of every cell."""
        return self.form.keys(self.genotypes(architecture))
