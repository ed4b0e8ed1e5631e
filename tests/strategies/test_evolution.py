"""Children and the evolution, against brute force and by counting."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.strategies.evolution import Candidate, Evolution, cheapest, crossed, mutated, ranked
from lightning_nas.testing.toys import ToySpace

FBNET = FBNetSpace(image_size=8, in_channels=1, num_classes=4, stem=(8, 1), stages=[(8, 3, 1), (16, 3, 2)], head=16)
DARTS = DARTSSpace(image_size=8, in_channels=1, num_classes=4, cells=3, channels=4, evaluation=None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def costs(space: SearchSpace) -> Callable[[Architecture], float]:
    table = Macs()(space)
    return lambda architecture: space.cost(architecture, table)


def made_up(architecture: Architecture) -> float:
    """A score that is a function of the architecture, without ties to speak of."""
    return int(architecture.key, 16) / 2**64


def evolution(space: SearchSpace, **options: Any) -> Evolution:
    sizes = {"generations": 6, "population": 12, "parents": 4}
    return Evolution(space, made_up, generator(), **{**sizes, **options})


@pytest.mark.parametrize("space", [FBNET, DARTS], ids=["fbnet", "darts"])
def test_children_differ_from_their_parents_in_genes_only(space: SearchSpace) -> None:
    draw = generator()
    for _ in range(20):
        first, second = space.sample(draw), space.sample(draw)
        child = crossed(space, first, second, draw)
        assert space.validate(child) == child
        assert all(gene in (a, b) for gene, a, b in zip(child.choices, first.choices, second.choices, strict=True))
        assert [name for name, _ in mutated(space, first, 0.5, draw).choices] == [name for name, _ in first.choices]


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0.0), (0.1, 0.1 * 8 / 9), (1.0, 8 / 9)])
def test_each_gene_is_drawn_anew_with_the_probability(probability: float, expected: float) -> None:
    draw, parent, changed = generator(), FBNET.sample(generator()), 0
    nine = [i for i, decision in enumerate(FBNET.decisions) if len(decision.options) == 9]
    for _ in range(400):
        child = mutated(FBNET, parent, probability, draw)
        changed += sum(parent.options[i] != child.options[i] for i in nine)
    share = changed / (400 * len(nine))
    assert share == pytest.approx(expected, abs=4 * (0.25 / (400 * len(nine))) ** 0.5)


def test_a_child_has_half_its_genes_of_each_parent() -> None:
    first, second = (FBNET.validate({d.name: d.options[k] for d in FBNET.decisions}) for k in (0, 1))
    draw, genes = generator(), 0
    for _ in range(200):
        genes += sum(a == b for a, b in zip(crossed(FBNET, first, second, draw).options, first.options, strict=True))
    assert genes / (200 * len(FBNET.decisions)) == pytest.approx(0.5, abs=0.06)


def test_every_candidate_keeps_the_limit_and_none_comes_twice() -> None:
    cost = costs(FBNET)
    floor = cheapest(FBNET, cost, generator())
    drawn = sorted(cost(FBNET.sample(generator(seed))) for seed in range(200))
    limit = (drawn[0] + cost(floor)) / 2  # below all 200 random ones
    found = list(evolution(FBNET, cost=cost, limit=limit, floor=floor).run())
    assert len(found) > 30
    assert all(candidate.cost == cost(candidate.architecture) <= limit for candidate in found)
    keys = [FBNET.canonical(candidate.architecture) for candidate in found]
    assert len(set(keys)) == len(keys)


def test_parents_are_the_best_of_all_that_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Candidate] = []
    parents: list[tuple[int, Architecture]] = []

    def spied(space: SearchSpace, parent: Architecture, *rest: Any) -> Architecture:
        parents.append((len(found), parent))
        return mutated(space, parent, *rest)

    monkeypatch.setattr("lightning_nas.strategies.evolution.mutated", spied)
    for candidate in evolution(FBNET).run():  # one by one, so that a parent's past is known
        found += [candidate]
    assert [candidate.generation for candidate in found] == [generation for generation in range(6) for _ in range(12)]
    assert len(parents) >= 5 * 6
    for known, parent in parents:
        assert parent in [c.architecture for c in sorted(found[:known], key=lambda c: -c.score)[:4]]


def test_with_enough_budget_it_finds_the_best_of_all_nine() -> None:
    space = ToySpace()
    every = [
        space.validate({"layer_1": a, "layer_2": b}) for a in ("blur", "swap", "keep") for b in ("blur", "swap", "keep")
    ]
    for seed in range(5):
        found = list(Evolution(space, made_up, generator(seed), generations=5, population=6, parents=2).run())
        assert {candidate.architecture for candidate in found} == set(every)
        assert ranked(found)[0].architecture == max(every, key=made_up)


def test_it_climbs_where_random_search_does_not() -> None:
    def wanted(architecture: Architecture) -> float:
        return sum(option == "k3_e6" for option in architecture.options)

    better = 0
    for seed in range(5):
        found = list(Evolution(FBNET, wanted, generator(seed), generations=10, population=10, parents=3).run())
        draw = generator(100 + seed)
        better += ranked(found)[0].score > max(wanted(FBNET.sample(draw)) for _ in found)
    assert better >= 4


def test_the_cheapest_is_the_sum_of_the_cheapest_blocks() -> None:
    fixed, rows = FBNET.cost_matrices(Macs()(FBNET))
    lowest = fixed
    (group,) = rows
    for row, decision in zip(rows[group], FBNET.decisions, strict=True):
        lowest += min(row[FBNET.gate_options[group].index(option)].item() for option in decision.options)
    assert costs(FBNET)(cheapest(FBNET, costs(FBNET), generator())) == pytest.approx(lowest)


def test_of_equals_the_cheaper_is_better() -> None:
    one, other = FBNET.sample(generator(0)), FBNET.sample(generator(1))
    assert ranked([Candidate(0, one, 0.5, 2.0), Candidate(1, other, 0.5, 1.0)])[0].architecture == other


def test_equal_generators_give_equal_evolutions() -> None:
    assert list(evolution(DARTS).run()) == list(evolution(DARTS).run())
