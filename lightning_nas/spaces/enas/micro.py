r"""ENAS' micro search space (Pham et al., ICML 2018, arXiv:1802.03268): the cells of an image network.

Two kinds of cell, normal and reduction, of five nodes; a node adds two operations of five, each on any earlier state.
The paper counts :math:`(5 \cdot 5!)^4 = 1.3 \cdot 10^{11}` pairs of cells; there are :math:`(5^5 \cdot 6!)^4` ways to
take the decisions.

The searched network (6 + 2 cells of 20 channels) and the retrained one (15 + 2 of 36) differ in more than size, see
:mod:`lightning_nas.spaces.enas.micro_networks`; the second is
:class:`~lightning_nas.spaces.enas.micro_retrained.ENASMicroNetworks`.

Differs from the authors' code: sides of odd length are allowed, and weights of options that were not drawn get no
gradient instead of zeros, so that neither weight decay nor momentum moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated

from annotated_types import Len
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.ops.mixed import Mix, plain
from lightning_nas.ranges import Depth, Nodes, Side, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.cells.genotype import KINDS
from lightning_nas.spaces.cells.pairwise import SLOTS, states
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.cells.stacked import StackedCells
from lightning_nas.spaces.enas.micro_form import MicroForm
from lightning_nas.spaces.enas.micro_networks import searched_cell
from lightning_nas.spaces.enas.micro_retrained import ENASMicroNetworks, MicroCells
from lightning_nas.spaces.enas.micro_supernet import MicroSupernet, MixedMicroCell, edge_name
from lightning_nas.spaces.enas.operations import MICRO, by_batch
from lightning_nas.spaces.gates import Gates, Joint
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class ENASMicroSpace(MicroCells, WeightSharingSpace):
    r"""Cells of ENAS' micro space (Pham et al., ICML 2018, arXiv:1802.03268, section 2.4).

    Two kinds of cell, normal and reduction, of five nodes; a node adds two of five operations, each on any earlier
    state. Decisions of a node: ``normal_2_input_1``, ``normal_2_input_2`` (``s0`` and ``s1`` are the outputs of the
    two cells before, ``s2`` and above are nodes), ``normal_2_op_1``, ``normal_2_op_2``. The paper counts :math:`(5
    \cdot 5!)^4 = 1.3 \cdot 10^{11}` architectures; the decisions can be taken in :math:`(5^5 \cdot 6!)^4` ways.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are, for each kind of cell,
    one group a node with a row for either input, and one group with a row for every operation. The retrained network
    is :class:`~lightning_nas.spaces.enas.micro_retrained.ENASMicroNetworks`.

    Differs from the authors' code: images of odd sizes are allowed; weights of options that were not drawn get no
    gradient instead of zeros, so that neither weight decay nor momentum moves them.

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
        evaluation: (layers, channels, dropout) of the network that is retrained.

    Raises:
        InputError: a size out of range.

    Example:
        >>> space = ENASMicroSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('s1')
        ('enas_micro_small', 16, 'output of cell k-1')
        >>> import torch
        >>> space = ENASMicroSpace(image_size=8, in_channels=1, layers=1, nodes=2, channels=4)
        >>> a = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={
            "name": "enas_micro_small",
            "layers": 1,
            "nodes": 2,
            "channels": 8,
            "dropout": 0.0,
            "evaluation": (3, 8, 0.0),
        },
    )
    def __init__(
        self,
        name: str = "enas_micro",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        layers: Depth = 6,
        nodes: Nodes = 5,
        channels: Width = 20,
        dropout: Probability = 0.1,
        evaluation: Annotated[Sequence[NonNegativeFloat], Len(3, 3)] = (15, 36, 0.2),
    ) -> None:
        self._settle(name, MicroForm(image_size, in_channels, num_classes, layers, nodes, channels, dropout))
        self._evaluation = evaluation
        inputs = {f"{kind}_{i}_inputs": i for kind in KINDS for i in range(2, nodes + 2)}
        self.gate_options = {group: states(count) for group, count in inputs.items()}
        self.gate_options |= {f"{kind}_operations": MICRO for kind in KINDS}
        rows = {group: len(SLOTS) * (1 if group in inputs else nodes) for group in self.gate_options}
        self.gate_shapes = {group: (rows[group], len(options)) for group, options in self.gate_options.items()}

    def evaluation(self) -> ENASMicroNetworks:
        """The networks that are retrained."""
        layers, channels, dropout = self._evaluation
        form = replace(self.form, layers=int(layers), channels=int(channels), dropout=dropout)
        return ENASMicroNetworks(self.name, **asdict(form))

    def deeper(self, cells: int) -> ENASMicroSpace:
        """The same choices in a network with ``cells`` more cells."""
        form = replace(self.form, layers=self.form.layers + cells)
        return ENASMicroSpace(self.name, **asdict(form), evaluation=self._evaluation)

    def nodes(self, group: str) -> tuple[int, ...]:
        """List the nodes: both operations of a node lead to it; choices of inputs are not summed."""
        rows = range(self.gate_shapes[group][0])
        return tuple(row // 2 for row in rows) if group.endswith("_operations") else tuple(rows)

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> StackedCells:
        """The network of the search with the chosen operations alone; no auxiliary classifier."""
        no_auxiliary(self, auxiliary)
        genotypes = self.genotypes(architecture)
        network = self._network(lambda place: searched_cell(place, genotypes[place.kind]), num_classes)
        by_batch(network)
        return network

    def _network(self, cell: Callable[[CellPlace], nn.Module], num_classes: int | None = None) -> StackedCells:
        places = self.form.searched()
        halvings = {i: op.build() for i, (_, op) in self.form.halvings().items()}
        head = self.form.make_head(places[-1].channels, num_classes)
        return StackedCells(self.form.make_stem(), [cell(place) for place in places], halvings, head)

    def supernet(self, mix: Mix | None = None) -> MicroSupernet:
        """The network in which each of a node's two operations mixes five operations on every earlier state."""
        network = self._network(lambda place: MixedMicroCell(place, self.form.nodes, mix or plain))
        return MicroSupernet(network, [place.kind for place in self.form.searched()], self.form.nodes)

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows: the states, and the operations."""
        chosen: dict[str, list[int]] = {}
        for kind, genotype in self.genotypes(architecture).items():
            for i, node in enumerate(genotype.nodes, start=2):
                chosen[f"{kind}_{i}_inputs"] = [state for _, state in node]
            chosen[f"{kind}_operations"] = [MICRO.index(option) for node in genotype.nodes for option, _ in node]
        return Gates.one_hot({group: chosen[group] for group in self.gate_shapes}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable state and operation everywhere; ties go to the first."""
        best = {group: rows.argmax(-1).tolist() for group, rows in probabilities.items()}
        choices: dict[str, str] = {}
        for kind in KINDS:
            for node in range(self.form.nodes):
                prefix = f"{kind}_{node + 2}"
                states = best[f"{prefix}_inputs"]
                choices |= {f"{prefix}_input_{slot + 1}": f"s{states[slot]}" for slot in SLOTS}
                operations = best[f"{kind}_operations"]
                choices |= {f"{prefix}_op_{slot + 1}": MICRO[operations[2 * node + slot]] for slot in SLOTS}
        return Architecture.of(self.name, choices)

    def extract(self, supernet: Supernet, architecture: Architecture) -> StackedCells:
        """The chosen operations, and the parts of the last convolutions for the loose ends, with copies of weights."""
        assert isinstance(supernet, MicroSupernet)
        network = self.network(architecture).to(next(supernet.parameters()))
        shared, genotypes = supernet.network.state_dict(), self.genotypes(architecture)
        state = {}
        for name in network.state_dict():
            part, *path = name.split(".", 4)
            source = name
            if part == "cells" and path[1] == "operations":
                node, slot = divmod(int(path[2]), 2)
                option, taken = genotypes[supernet.kinds[int(path[0])]].nodes[node][slot]
                source = f"cells.{path[0]}.edges.{edge_name(node, slot, taken)}.{option}.{path[3]}"
            state[name] = shared[source]
        network.load_state_dict(state)
        return network

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> list[tuple[str, Operation]]:
        """Stem, calibrations, and at each output the batch norm and the part of the last node."""
        form, places = self.form, self.form.searched()
        made = [form.stem(), *form.halvings().values()]
        for place in places:
            made += [calibration for calibration in place.calibrations() if calibration]
            shape = (place.channels, place.size, place.size)
            made.append((_norm_key(place), Operation(partial(nn.BatchNorm2d, place.channels), shape)))
            made.append((_part_key(place), Operation(partial(_part, place.channels), shape)))
        return [*made, form.head(places[-1].channels, places[-1].size)]

    def operations(self) -> dict[str, Operation]:
        """Fixed parts, and every operation at every width."""
        made = dict(self._fixed())
        for place in self.form.searched():
            shape = (place.channels, place.size, place.size)
            for option in MICRO:
                made |= {key: Operation(partial(place.operation, option, 0), shape) for key in place.key(option, 0)}
        return {key: Operation(partial(_by_batch, op.build), op.input_shape) for key, op in made.items()}

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, two operations a node, and a part of the last convolution for each loose end."""
        keys, genotypes = [key for key, _ in self._fixed()], self.genotypes(architecture)
        for place in self.form.searched():
            genotype = genotypes[place.kind]
            keys += [key for node in genotype.nodes for option, state in node for key in place.key(option, state)]
            keys += [_part_key(place)] * (len(genotype.concat) - 1)  # the last node's part is fixed
        return tuple(keys)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """An operation costs the same on every state, so states cost nothing by themselves; see :meth:`joint_keys`."""
        rows: dict[str, tuple[tuple[Keys, ...], ...]] = {}
        for group, (choices, options) in self.gate_shapes.items():
            kind, _, what = group.partition("_")
            row: tuple[Keys, ...] = ((),) * options
            if what == "operations":
                places = [place for place in self.form.searched() if place.kind == kind]
                row = tuple(tuple(key for place in places for key in place.key(option, 0)) for option in MICRO)
            rows[group] = (row,) * choices
        return tuple(key for key, _ in self._fixed()), rows

    def joint_keys(self) -> tuple[Joint, ...]:
        """A state's part of the last convolution, in every cell of a kind, where no later node takes the state."""
        made = []
        for kind in KINDS:
            keys = tuple(_part_key(place) for place in self.form.searched() if place.kind == kind)
            for state in range(self.form.nodes + 1):
                later = range(max(2, state + 1), self.form.nodes + 2)
                gates = tuple((f"{kind}_{node}_inputs", slot, state) for node in later for slot in SLOTS)
                made.append(Joint(keys, gates, "none"))
        return tuple(made)


def _part_key(place: CellPlace) -> str:
    return f"combine {place.channels}x{place.size}x{place.size}"


def _norm_key(place: CellPlace) -> str:
    return f"norm {place.channels}x{place.size}x{place.size}"


def _part(channels: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False))


def _by_batch(build: Callable[[], nn.Module]) -> nn.Module:
    return by_batch(build())
