"""Any cell in the network of NASNet (arXiv:1707.07012), the published NASNet-A and AmoebaNet-A among them.

Those were found in the space of :mod:`lightning_nas.spaces.nasnet.space` and then changed by hand: their output also
contains states that blocks take. Here the output is a decision too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import PositiveInt

from lightning_nas.architecture import Decision
from lightning_nas.ranges import Depth, Nodes, Pair, Side, Width
from lightning_nas.spaces.cells.pairwise import chosen_nodes, unused
from lightning_nas.spaces.cells.place import Stem
from lightning_nas.spaces.meanings import states_meaning
from lightning_nas.spaces.nasnet.cells import JOINS
from lightning_nas.spaces.nasnet.networks import NASNetGenotype
from lightning_nas.spaces.nasnet.operations import ALL
from lightning_nas.spaces.nasnet.space import NASNetSpace
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class NASNetCellSpace(NASNetSpace):
    """Cells in the network of NASNet (arXiv:1707.07012) whose output is chosen too, to name and retrain.

    NASNet-A and AmoebaNet-A as published are among them. Decisions are those of
    :class:`~lightning_nas.spaces.nasnet.space.NASNetSpace`, then ``normal_concat``: the states that are concatenated to
    the output, at least all that no block takes.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

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
        evaluation: (cells, filters) of another network that is retrained.

    Raises:
        InputError: a size out of range, or an unknown operation.

    Example:
        >>> space = NASNetCellSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('s1')
        ('nasnet_cell', 52, 'output of cell k-1')
        >>> space = NASNetCellSpace(image_size=8, cells=1, filters=4, blocks=1, joins=["add"])
        >>> [decision.name for decision in space.decisions][4::5], space.decisions[4].options
        (['normal_concat', 'reduce_concat'], ('2', '0,2', '1,2', '0,1,2'))
    """

    @sized_by_images(
        small={"cells": 2, "filters": 8, "stem_multiplier": 1},
        large={"cells": 4, "filters": 44, "stem": "imagenet", "stem_multiplier": 1, "dropout": 0.5},
    )
    def __init__(
        self,
        name: str = "nasnet_cell",
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
        operations: Sequence[str] = ALL,
        joins: Sequence[str] = JOINS,
        evaluation: Pair | None = None,
    ) -> None:
        super().__init__(
            name,
            image_size=image_size,
            in_channels=in_channels,
            num_classes=num_classes,
            cells=cells,
            filters=filters,
            stem=stem,
            stem_multiplier=stem_multiplier,
            dropout=dropout,
            pass_reduction=pass_reduction,
            blocks=blocks,
            operations=operations,
            joins=joins,
            evaluation=evaluation,
        )

    def _decisions(self, kind: str) -> Iterator[Decision]:
        yield from super()._decisions(kind)
        yield Decision(f"{kind}_concat", _outputs(self.blocks + 1))

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options; states that no block takes are always part of the output."""
        kind, _, what = decision.name.partition("_")
        if what != "concat":
            return decision.options
        loose = set(unused(chosen_nodes(kind, self.blocks, partial)))
        return tuple(option for option in decision.options if loose <= set(map(int, option.split(","))))

    def meaning(self, option: str) -> str:
        return super().meaning(states_meaning(option, first_node=2))

    def _genotype(self, kind: str, choices: Mapping[str, str]) -> NASNetGenotype:
        concat = tuple(map(int, choices[f"{kind}_concat"].split(",")))
        return replace(super()._genotype(kind, choices), concat=concat)

    def _beside(self, kind: str, genotype: NASNetGenotype) -> dict[str, str]:
        return super()._beside(kind, genotype) | {f"{kind}_concat": ",".join(map(str, genotype.concat))}

    def _most(self) -> int:
        return 1 + super()._most()  # both inputs


def _outputs(last: int) -> tuple[str, ...]:
    """List all sets of states that contain the last one."""
    others = (some for size in range(last + 1) for some in itertools.combinations(range(last), size))
    return tuple(",".join(map(str, (*some, last))) for some in others)
