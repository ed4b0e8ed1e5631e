"""PNAS' space: cells that grow block by block."""

import itertools
import math
from collections import Counter

import pytest
import torch

from lightning_nas import zoo
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.latency.macs import count_params
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nasnet.pnas import PNASSpace
from lightning_nas.testing.spaces import SpaceCase

SIZES = {"image_size": 8, "in_channels": 1, "num_classes": 3, "cells": 1, "filters": 4, "evaluation": (2, 6)}
PAIR = ("conv_1x1", "conv_3x3")


def small(**options: object) -> PNASSpace:
    return PNASSpace(**SIZES | options)  # type: ignore[arg-type]


class TestPnas(SpaceCase):
    every_weight_trains = False  # an input, or the last but one cell, may be taken by no block

    @pytest.fixture
    def space(self) -> SearchSpace:
        return small(blocks=3)


class TestPnasOnImageNet(SpaceCase):
    every_weight_trains = False

    @pytest.fixture
    def space(self) -> SearchSpace:
        return small(blocks=1, image_size=66, filters=10, stem="imagenet", stem_multiplier=1, evaluation=None)


def test_the_paper_counts_as_many_cells() -> None:
    space = PNASSpace()
    lengths = [[d for d in space.decisions if d.node == f"cell_{i}"] for i in range(2, 7)]
    counts = [math.prod(len(decision.options) for decision in block) for block in lengths]
    assert counts == [256, 576, 1024, 1600, 2304]
    assert math.prod(counts) == pytest.approx(5.6e14, rel=0.01)
    assert len(space.expansions()) == 136


def test_expansions_are_the_cells_of_one_block_more_and_each_of_them_once() -> None:
    space = small(operations=PAIR, blocks=3)
    legal: dict[str, set[object]] = {}
    for blocks in (1, 2):
        decisions = [d for d in space.decisions[1:] if space.options(d, {"blocks": str(blocks)})]
        for options in itertools.product(*(decision.options for decision in decisions)):
            choices = {d.name: option for d, option in zip(decisions, options, strict=True)}
            one = space.canonical(space.validate({"blocks": str(blocks)} | choices))
            legal.setdefault(str(blocks), set()).add(one)
    first = space.expansions()
    second = [space.expansions(one) for one in first]
    assert set(first) == legal["1"]
    assert {two for one in second for two in one} == legal["2"]
    assert all(len(set(some)) == len(some) for some in (first, *second))


def test_an_expansion_adds_two_operations_to_its_cell() -> None:
    space, generator = small(operations=PAIR, blocks=4), torch.Generator().manual_seed(0)
    for _ in range(10):
        architecture = space.canonical(space.sample(generator))
        before = Counter(option for option in architecture.options if option in PAIR)
        for longer in space.expansions(architecture):
            after = Counter(option for option in longer.options if option in PAIR)
            assert before <= after
            assert (after - before).total() == 2
            assert space.canonical(longer) == longer


def test_the_longest_cells_have_no_expansion() -> None:
    space = small(blocks=2, operations=PAIR)
    assert not space.expansions(space.expansions(space.expansions()[0])[0])


def test_blocks_that_are_not_there_are_not_decided_on() -> None:
    space = small(blocks=4)
    drawn = [space.sample(torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert {len(a.choices) for a in drawn} == {1 + 4 * blocks for blocks in (1, 2, 3, 4)}
    with pytest.raises(InvalidArchitecture, match="cell_3_input_1 cannot be 's0'; legal: none"):
        space.validate(dict(space.expansions()[0].choices) | {"cell_3_input_1": "s0"})


def test_the_cell_halves_in_the_stem_and_at_later_stacks() -> None:
    cifar, mobile = (zoo.space(f"pnasnet5_{name}") for name in ("cifar", "mobile"))
    assert isinstance(cifar, PNASSpace)
    assert isinstance(mobile, PNASSpace)
    halving = [
        [i for i, p in enumerate(s.form.places({"normal": 5, "reduce": 5})) if p.halves] for s in (cifar, mobile)
    ]
    assert halving == [[3, 6], [0, 1, 5, 8]]


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("pnasnet5_mobile", [(135, 28), *[(270, 28)] * 3, *[(540, 14)] * 3, *[(1080, 7)] * 3]),
        ("pnasnet5_large", [(540, 42), *[(1080, 42)] * 4, *[(2160, 21)] * 4, *[(4320, 11)] * 4]),
    ],
)
def test_feature_maps_have_the_authors_shapes(name: str, maps: list[tuple[int, int]]) -> None:
    space, found = zoo.space(name), []
    with torch.device("meta"):
        network = space.network(zoo.load(name)).eval()
        for cell in network.cells[1:]:
            cell.register_forward_hook(lambda _, __, y: found.append((y.shape[1], y.shape[3])))
        network(torch.zeros(1, *space.input_shape))
    assert found == maps


def test_a_longer_cell_is_a_larger_network() -> None:
    space = small(operations=["conv_1x1"], blocks=5)
    sizes, architecture = [], None
    while expansions := space.expansions(architecture):
        architecture = expansions[0]
        sizes.append(count_params(space.network(architecture)))
    assert len(sizes) == 5
    assert sizes == sorted(set(sizes))


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"blocks": 0}, "blocks: got 0; legal: int >= 1"),
        ({"operations": ["none"]}, "no operation 'none'"),
    ):
        with pytest.raises(InputError, match=words):
            small(**options)
