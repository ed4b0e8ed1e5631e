"""The space of which every network was trained."""

import itertools
from typing import Any

import pytest
import torch

from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_params
from lightning_nas.spaces.chains.tiny import TinySpace
from lightning_nas.testing.spaces import SpaceCase


class TestTiny(SpaceCase):
    @pytest.fixture
    def space(self) -> TinySpace:
        return TinySpace(input_shape=(1, 14, 14), num_classes=10, channels=8)


class TestTinyOfOtherOperations(SpaceCase):
    @pytest.fixture
    def space(self) -> TinySpace:
        operations = ("conv_3x3", "depthwise_5x5", "mlp_1x1", "max_pool_3x3", "skip")
        return TinySpace(input_shape=(3, 9, 9), num_classes=4, channels=8, operations=operations)


def test_all_networks_differ() -> None:
    space = TinySpace()
    drawn = {a.options for a in space.different(729, torch.Generator().manual_seed(0))}
    assert drawn == set(itertools.product(("conv_1x1", "depthwise_3x3", "avg_pool_3x3"), repeat=6))


def test_parameters_are_those_of_the_layers() -> None:
    """Weights counted by hand: stem, reduction, head; 1x1 and depthwise convolutions with their batch norms."""
    space, c = TinySpace(), 24
    fixed = (9 * c + 2 * c) + (c * 2 * c + 4 * c) + (2 * c * 10 + 10)
    one, two = {"conv_1x1": c * c + 2 * c, "depthwise_3x3": 9 * c + 2 * c, "avg_pool_3x3": 0}, 2 * c
    wide = {"conv_1x1": two * two + 2 * two, "depthwise_3x3": 9 * two + 2 * two, "avg_pool_3x3": 0}
    for a in space.different(20, torch.Generator().manual_seed(1)):
        expected = fixed + sum(one[o] for o in a.options[:3]) + sum(wide[o] for o in a.options[3:])
        assert count_params(space.network(a)) == expected


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        (("conv_1x1",), "leave nothing to choose"),
        (("conv_1x1", "conv_1x1"), "'conv_1x1', given twice"),
        (("conv_1x1", "conv_7x7"), "'conv_7x7', unknown; legal, each once: conv_1x1, conv_3x3"),
    ],
)
def test_operations_that_leave_no_choice_are_refused(operations: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TinySpace(operations=operations)
