"""Warnings of the search stage about an answer."""

import pytest

from lightning_nas.experiment.search import ignores_its_input
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.enas import ENASRNNSpace
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import generator

CELLS = NASBench201Space("cells", image_size=8, in_channels=1, channels=4, cells=(1, 1))
CUT = [
    "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",  # nothing leaves the input
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|",  # nothing reaches the output
]
WHOLE = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"


@pytest.mark.parametrize("cell", CUT)
def test_a_cell_whose_paths_are_cut_ignores_its_input(cell: str) -> None:
    assert ignores_its_input(CELLS, CELLS.from_string(cell))


def test_a_cell_with_one_path_does_not() -> None:
    assert not ignores_its_input(CELLS, CELLS.from_string(WHOLE))


@pytest.mark.parametrize("space", [ToySpace(), ENASRNNSpace(bptt=5, num_classes=11, width=8, nodes=4)])
def test_neither_do_networks_of_other_kinds(space: SearchSpace) -> None:
    assert not ignores_its_input(space, space.validate(space.sample(generator(4))))
