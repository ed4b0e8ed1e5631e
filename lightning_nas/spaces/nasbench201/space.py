r"""The topology space of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv:2001.00326), also that of NATS-Bench.

One cell of four nodes is repeated in all stages; each of its six edges takes one of five operations, so there are
:math:`5^6 = 15{,}625` architectures. A node is the sum of its edges; the last node is the cell's output.

Differs from the authors' code: nothing in the networks of the table (``affine=True``). Their one-shot searches run with
``affine=False``, batch norm without scale and shift in the cells' operations, so that an operation cannot be scaled up
by anything but its gate. Here ``affine`` is one argument for the supernet and the networks, because a network extracted
from the supernet has the structure of a fresh one; with ``affine=False`` a network has fewer parameters than its row of
the table says, and as many multiply-adds. With ``affine=False`` the authors' convolutions have a bias; here they have
none, because the batch norm that follows subtracts it: outputs are equal, and its gradient is zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated

import networkx as nx
import torch
from annotated_types import Len
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, InvalidArchitecture, shown
from lightning_nas.ops.mixed import Choice, Mix, plain
from lightning_nas.ranges import Depth, Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.meanings import operation_meaning
from lightning_nas.spaces.nasbench201.operations import (
    EDGES,
    OPTIONS,
    Cell,
    CellNetwork,
    MixedCell,
    Reduction,
    operation,
)
from lightning_nas.spaces.sides import ImageSize, by, pair, size_of
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images

GROUP = "edges"
_FREE = ("none", "skip_connect")  # nothing to run
_STRING = re.compile(
    r"\+".join(r"\|" + "".join(rf"(\w+)~{source}\|" for source in range(node)) for node in range(1, 4)), re.ASCII
)


class NASBench201Space(WeightSharingSpace):
    """Topology space of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv:2001.00326), also that of NATS-Bench.

    One cell of four nodes is repeated in all stages; each of its six edges (``edge_2_1``: into node 2 from node 1)
    takes one of five operations: :math:`5^6 = 15{,}625` architectures. A node is the sum of its edges, the last node
    is the output.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are one group, "edges",
    with a row for each edge.

    Differs from the authors' code: nothing with ``affine=True``; their one-shot searches run with ``affine=False``,
    which here holds for the networks too, and where their convolutions have a bias that batch norm subtracts (see the
    text of this module).

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 4.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        channels: channels of the first stage; each stage doubles them and halves the size.
        cells: number of cells of each stage.
        affine: batch norms of the cells' operations have scale and shift; the table's networks do.
        fused: the supernet runs in its fused form (``ops/fused_cells.py``): the same numbers and state, faster.

    Raises:
        InputError: images below 4 pixels, or a stage without cells.

    Example:
        >>> space = NASBench201Space(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('avg_pool_3x3')
        ('nasbench201_small', 6, '3x3 average pooling')
        >>> space = NASBench201Space("toy", image_size=8, in_channels=1, channels=4, cells=[1, 1])
        >>> a = space.from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")
        >>> a["edge_3_2"]
        'avg_pool_3x3'
        >>> import torch
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(small={"name": "nasbench201_small", "channels": 8, "cells": (1, 1, 1)})
    def __init__(
        self,
        name: str = "nasbench201",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        channels: Width = 16,
        cells: Annotated[Sequence[Depth], Len(1, 8)] = (5, 5, 5),
        affine: bool = True,
        fused: bool = True,
    ) -> None:
        size = size_of(image_size)
        if size < 4:
            raise InputError(f"the space {name!r} needs images of at least 4 pixels, got {size}")
        self.name, self.input_shape, self.num_classes = name, (in_channels, *pair(size)), num_classes
        self.channels, self.cells, self.affine, self.fused = channels, tuple(cells), affine, fused
        self.stages = tuple((channels * 2**i, -(-size // 2**i)) for i in range(len(self.cells)))  # width, size
        self.decisions = tuple(Decision(f"edge_{node}_{source}", OPTIONS) for node, source in EDGES)
        self.gate_shapes = {GROUP: (len(EDGES), len(OPTIONS))}
        self.gate_options = {GROUP: OPTIONS}

    # -- the benchmark's names ----------------------------------------------------------------------------------

    def from_string(self, text: str) -> Architecture:
        """Read the architecture that the benchmark writes as ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            InvalidArchitecture: text of another form, or an unknown operation.
        """
        try:
            options = options_of(text)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"{self.name}: {error}") from None
        return self.validate({d.name: option for d, option in zip(self.decisions, options, strict=True)})

    def to_string(self, architecture: Architecture) -> str:
        """The inverse of :meth:`from_string`."""
        options = dict(zip(EDGES, self.validate(architecture).options, strict=True))
        nodes = ("|".join(f"{options[node, source]}~{source}" for source in range(node)) for node in range(1, 4))
        return "+".join(f"|{node}|" for node in nodes)

    def meaning(self, option: str) -> str:
        return operation_meaning(option)

    def has_path(self, architecture: Architecture) -> bool:
        """Whether edges other than "none" lead from the first node of the cell to the last.

        >>> space = NASBench201Space()
        >>> space.has_path(space.from_string("|none~0|+|none~0|nor_conv_1x1~1|+|none~0|nor_conv_1x1~1|skip_connect~2|"))
        False
        """
        reached = {0}
        for (node, source), option in zip(EDGES, self.validate(architecture).options, strict=True):
            if option != "none" and source in reached:
                reached.add(node)
        return EDGES[-1][0] in reached

    # -- networks -----------------------------------------------------------------------------------------------

    def _stem(self) -> nn.Module:
        conv = nn.Conv2d(self.input_shape[0], self.channels, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(self.channels))

    def _head(self, num_classes: int) -> nn.Module:
        width = self.stages[-1][0]
        pool = (nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*pool, nn.Linear(width, num_classes))

    def _chain(self, cell: Callable[[int], nn.Module]) -> list[nn.Module]:
        """``cell(width)`` as often as each stage has it, with a reduction before every stage but the first."""
        chain: list[nn.Module] = []
        for (width, _), count in zip(self.stages, self.cells, strict=True):
            chain += [Reduction(width // 2, width)] if chain else []
            chain += [cell(width) for _ in range(count)]
        return chain

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> CellNetwork:
        """Stem, the cells and the reductions between the stages, average pooling, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options

        def cell(width: int) -> Cell:
            return Cell([operation(option, width, width, affine=self.affine) for option in chosen])

        return CellNetwork(self._stem(), self._chain(cell), self._head(classes_of(num_classes, self.num_classes)))

    def supernet(self, mix: Mix | None = None) -> NASBench201Supernet:
        """The network whose edges mix all five operations; the gates of an edge are the same in all cells."""
        build, made = partial(operation, affine=self.affine), mix or plain

        def cell(width: int) -> MixedCell:
            edges = [made(Choice(OPTIONS, build, width, width)) for _ in EDGES]
            return MixedCell(edges, fused=mix is None and self.fused)

        return NASBench201Supernet(self._stem(), self._chain(cell), self._head(self.num_classes))

    def nodes(self, group: str) -> tuple[int, ...]:
        """Edges lead to the nodes 1, 2, 2, 3, 3, 3."""
        del group
        return tuple(node for node, _ in EDGES)

    def deeper(self, cells: int) -> NASBench201Space:
        """Return the space with more cells, each added to the stage with the fewest; ties go to the first stage."""
        counts = list(self.cells)
        for _ in range(cells):
            counts[counts.index(min(counts))] += 1
        channels, height, width = self.input_shape
        return NASBench201Space(
            self.name,
            image_size=(height, width),
            in_channels=channels,
            num_classes=self.num_classes,
            channels=self.channels,
            cells=counts,
            affine=self.affine,
            fused=self.fused,
        )

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one an edge."""
        return Gates.one_hot({GROUP: [OPTIONS.index(o) for o in self.validate(architecture).options]}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable operation of every edge, "none" included, as the authors do."""
        best = probabilities[GROUP].argmax(-1).tolist()
        return Architecture(self.name, tuple((d.name, OPTIONS[i]) for d, i in zip(self.decisions, best, strict=True)))

    def extract(self, supernet: Supernet, architecture: Architecture) -> CellNetwork:
        """The chosen operations with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        state = {}
        for name, value in supernet.state_dict().items():
            part, *rest = name.split(".", 5)  # cells.CELL.edges.EDGE.OPTION.REST
            if part == "cells" and rest[1] == "edges":
                if architecture.options[int(rest[2])] != rest[3]:
                    continue
                name = ".".join((part, *rest[:3], *rest[4:]))
            state[name] = value
        network.load_state_dict(state)
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Stem, stages of cells, classifier; all architectures have the same."""
        stages = ((f"{c}x{by(s)}", f"{n} x cell") for (c, s), n in zip(self.stages, self.cells, strict=True))
        return chain_graph([("stem", "conv 3x3"), *stages, ("head", f"{self.num_classes} classes")])

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """The one cell with its four nodes; "none" is drawn too."""
        options = zip(EDGES, self.validate(architecture).options, strict=True)
        edges = ((str(source), str(node), option) for (node, source), option in options)
        return {"cell": cell_graph({"0": "0\ninput", "1": "1", "2": "2", "3": "3\noutput"}, edges)}

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        images, (last, size) = "x".join(map(str, self.input_shape)), self.stages[-1]
        reductions = {
            f"reduction {c}x{by(s)} -> {2 * c}": Operation(partial(Reduction, c, 2 * c), (c, *pair(s)))
            for c, s in self.stages[:-1]
        }
        return {
            f"stem {images} -> {self.channels}": Operation(self._stem, self.input_shape),
            **reductions,
            f"head {last}x{by(size)} -> {self.num_classes}": Operation(
                lambda: self._head(self.num_classes), (last, *pair(size))
            ),
        }

    @cached_property
    def _run(self) -> tuple[Keys, dict[str, Keys]]:
        """Cost keys of the fixed parts, and of one edge in all cells, by option."""
        return tuple(self._fixed()), {option: self._keys(option) for option in OPTIONS}

    def _keys(self, option: str) -> Keys:
        """Cost keys of one edge in all cells."""
        if option in _FREE:
            return ()
        stages = zip(self.stages, self.cells, strict=True)
        return tuple(f"{option} {width}x{by(size)}" for (width, size), count in stages for _ in range(count))

    def operations(self) -> dict[str, Operation]:
        """Stem, reductions, head, and every operation that computes something in every stage."""
        return self._fixed() | {
            f"{option} {width}x{by(size)}": Operation(
                partial(operation, option, width, width, affine=self.affine), (width, *pair(size))
            )
            for width, size in self.stages
            for option in OPTIONS
            if option not in _FREE
        }

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and six operations a cell."""
        fixed, run = self._run
        return (*fixed, *(key for option in self.validate(architecture).options for key in run[option]))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Stem, reductions and head are always run; each option adds itself, once a cell."""
        fixed, run = self._run
        return fixed, {GROUP: (tuple(run.values()),) * len(EDGES)}


def options_of(text: str) -> tuple[str, ...]:
    """The options of the six edges in the benchmark's string; they need not be known ones.

    >>> options_of("|none~0|+|none~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")[-1]
    'avg_pool_3x3'

    Raises:
        InvalidArchitecture: text of another form.
    """
    match = _STRING.fullmatch(text)
    if match is None:
        form = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
        raise InvalidArchitecture(f"got {shown(text, 120)}; legal is {form}, op one of {OPTIONS}")
    return match.groups()


class NASBench201Supernet(Supernet):
    """Network of cells with a mixed operation on every edge."""

    def __init__(self, stem: nn.Module, cells: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.cells, self.head = stem, nn.ModuleList(cells), head

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix the edges of every cell by the rows of ``gates``."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for cell in self.cells:
            x = cell(x, gates.values[GROUP], gates.active[GROUP]) if isinstance(cell, MixedCell) else cell(x)
        logits: Tensor = self.head(x)
        return logits
