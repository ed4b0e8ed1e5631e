"""Any cell in the network of NASNet (arXiv:1707.07012): the published NASNet-A and AmoebaNet-A among them.

These were found in the space of :mod:`lightning_nas.spaces.nasnet.space` and then changed by hand: states that
blocks take are part of the output besides. Here the output is decided on too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_nas.architecture import Decision
from lightning_nas.spaces.cells.pairwise import chosen_nodes, unused
from lightning_nas.spaces.nasnet.networks import NASNetGenotype
from lightning_nas.spaces.nasnet.operations import ALL
from lightning_nas.spaces.nasnet.space import NASNetSpace


class NASNetCellSpace(NASNetSpace):
    """Normal and reduction cell of NASNet whose output is any set of states that has all those no block takes.

    Args:
        name: name carried by the architectures.
        operations: to choose from, of :data:`lightning_nas.spaces.nasnet.operations.ALL`.
        evaluation: (cells, filters) of another network that is retrained.
        sizes: the other arguments of :class:`~lightning_nas.spaces.nasnet.space.NASNetSpace`.

    Example:
        >>> space = NASNetCellSpace(image_size=8, cells=1, filters=4, blocks=1, joins=["add"])
        >>> [decision.name for decision in space.decisions][4::5], space.decisions[4].options
        (['normal_concat', 'reduce_concat'], ('2', '0,2', '1,2', '0,1,2'))
    """

    def __init__(
        self,
        name: str = "nasnet_cell",
        *,
        operations: Sequence[str] = ALL,
        evaluation: Sequence[int] | None = None,
        **sizes: Any,
    ) -> None:
        super().__init__(name, operations=operations, evaluation=evaluation, **sizes)

    def _decisions(self, kind: str) -> Iterator[Decision]:
        yield from super()._decisions(kind)
        yield Decision(f"{kind}_concat", _outputs(self.blocks + 1))

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """States that no block takes are part of the output in any case."""
        kind, _, what = decision.name.partition("_")
        if what != "concat":
            return decision.options
        loose = set(unused(chosen_nodes(kind, self.blocks, partial)))
        return tuple(option for option in decision.options if loose <= set(map(int, option.split(","))))

    def _genotype(self, kind: str, choices: Mapping[str, str]) -> NASNetGenotype:
        concat = tuple(map(int, choices[f"{kind}_concat"].split(",")))
        return replace(super()._genotype(kind, choices), concat=concat)

    def _beside(self, kind: str, genotype: NASNetGenotype) -> dict[str, str]:
        return super()._beside(kind, genotype) | {f"{kind}_concat": ",".join(map(str, genotype.concat))}

    def _most(self) -> int:
        return 1 + super()._most()  # both inputs


def _outputs(last: int) -> tuple[str, ...]:
    """All sets of states with the last one."""
    others = (some for size in range(last + 1) for some in itertools.combinations(range(last), size))
    return tuple(",".join(map(str, (*some, last))) for some in others)
