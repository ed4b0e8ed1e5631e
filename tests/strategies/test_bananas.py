"""BANANAS (arXiv:1910.11858)."""

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch

from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.nas_rl.rnn import NASRLRNNSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.multi_trial.bananas import (
    Bananas,
    Column,
    cell_paths,
    fitted,
    predicted,
    shows_operations,
    standardised,
)
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, MakeTrials, ToyEngine, TrialStrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator
from lightning_nas.trials.engines.base import Engine

SPACE = ToySpace(LAYERS)
SMALL = {"initial": 6, "batch": 6, "candidates": 20, "ensemble": 3, "hidden": 8, "steps": 20, "lr": 0.03}
DARTS = DARTSSpace(input_shape=(1, 8, 8), num_classes=10)
CELLS = NASBench201Space("toy", image_size=8, in_channels=1, channels=4, cells=[1])


def make(engine: Engine, seed: int = 0, **options: Any) -> Bananas:
    return Bananas(SPACE, Classification(), Macs()(SPACE), engine=engine, seed=seed, **SMALL | options)


class TestBananas(TrialStrategyCase):
    seeds, found_at_least = 8, 6

    @pytest.fixture
    def make(self) -> MakeTrials:
        return make


# -- paths ------------------------------------------------------------------------------------------------------


def by_adjacency(cell: str) -> set[tuple[str, ...]]:
    """Paths of a cell of NAS-Bench-201 from its string: every way through the four nodes that no "none" cuts."""
    edges = {}
    for node, group in enumerate(cell.split("+"), start=1):
        for entry in group.strip("|").split("|"):
            option, source = entry.split("~")
            edges[int(source), node] = option
    found = set()
    for middle in itertools.chain.from_iterable(itertools.combinations((1, 2), n) for n in range(3)):
        path = tuple(edges[step] for step in itertools.pairwise((0, *middle, 3)))
        if "none" not in path:
            found.add(path)
    return found


def by_networkx(space: SearchSpace, architecture: Any) -> set[Column]:
    found = set()
    for name, graph in space.cell_graphs(architecture).items():
        ends = [node for node in graph if not graph.out_degree(node)]
        for start in [node for node in graph if not graph.in_degree(node)]:
            for path in nx.all_simple_edge_paths(graph, start, ends):
                options = [graph.edges[edge]["label"] for edge in path]
                found.add((name, start, *(option for option in options if option)))
    return found


def test_paths_of_nasbench201_are_those_of_the_adjacency() -> None:
    for architecture in CELLS.different(100, generator(0, "cells")):
        found = {path[2:] for path in cell_paths(CELLS, architecture)}
        assert found == by_adjacency(CELLS.to_string(architecture))


def test_paths_of_darts_are_all_simple_paths() -> None:
    for architecture in DARTS.different(10, generator(0, "cells")):
        assert cell_paths(DARTS, architecture) == by_networkx(DARTS, architecture)


def test_equal_cells_in_another_order_have_equal_paths() -> None:
    first = CELLS.from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|")
    second = CELLS.from_string("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
    assert cell_paths(CELLS, first) == cell_paths(CELLS, second) != frozenset()


def test_the_encoding_is_one_exactly_where_a_path_is() -> None:
    search = Bananas(CELLS, Classification(), engine=ToyEngine())
    architectures = CELLS.different(20, generator(0, "some"))
    inputs = search.encoded(architectures)
    columns = sorted(set[Column]().union(*(cell_paths(CELLS, a) for a in architectures)))
    for row, architecture in zip(inputs, architectures, strict=True):
        assert {columns[i] for i in row.nonzero().flatten().tolist()} == cell_paths(CELLS, architecture)
        assert set(row.tolist()) <= {0.0, 1.0}


def test_one_hot_tells_decisions_apart() -> None:
    search = Bananas(CELLS, Classification(), engine=ToyEngine(), encoding="one_hot")
    architectures = CELLS.different(200, generator(0, "some"))
    inputs = search.encoded(architectures)
    assert inputs.shape == (200, 6 * 5)
    for (a, x), (b, y) in itertools.combinations(zip(architectures, inputs, strict=True), 2):
        differing = sum(p != q for p, q in zip(a.options, b.options, strict=True))
        assert (x - y).abs().sum() == 2 * differing


def test_paths_are_for_cells_whose_edges_show_every_operation() -> None:
    assert shows_operations(CELLS, generator(0))
    assert shows_operations(DARTS, generator(0))
    assert not shows_operations(SPACE, generator(0))
    tree = NASRLRNNSpace()  # combinations of its nodes are on no edge
    assert not shows_operations(tree, generator(0))
    with pytest.raises(ConfigError, match=r"strategy\.encoding=paths.*one_hot"):
        make(ToyEngine(), encoding="paths")


# -- predictors and batches -------------------------------------------------------------------------------------


def test_predictors_learn_a_linear_reward() -> None:
    rng = generator(0, "data")
    inputs = (torch.rand(120, 12, generator=rng) > 0.5).float()
    weights = torch.randn(12, generator=rng)
    targets, centre, scale = standardised((inputs @ weights).double())
    parameters = fitted(inputs[:80], targets[:80], rng, members=4, hidden=16, steps=150, lr=0.01)
    found = predicted(parameters, inputs[80:])
    assert found.shape == (4, 40)
    assert not torch.equal(found[0], found[1])
    least_squares = inputs[80:] @ torch.linalg.lstsq(inputs[:80], targets[:80, None]).solution[:, 0]
    assert torch.corrcoef(torch.stack([found.mean(0), least_squares]))[0, 1] > 0.95
    assert (targets.double() * scale + centre).tolist() == pytest.approx((inputs @ weights).tolist(), abs=1e-4)


def test_a_batch_is_untried_mutants_of_the_best(tmp_path: Path) -> None:
    module = make(ToyEngine(noise=0.1), trials=60, in_flight=1, parents=3)
    fit(module, None, tmp_path, epochs=1, every=1000)
    mutants = 0
    for number, (trial, _) in enumerate(module.history):
        known = {past.architecture for past, _ in module.history[:number]}
        assert trial.architecture not in known
        if number < 6:
            continue
        before = module.history[: number - number % 6]  # of earlier batches
        best = [past.architecture for past, _ in sorted(before, key=lambda pair: -pair[1])[:3]]
        tried = {past.architecture for past, _ in before}
        around = {a for parent in best for a in SPACE.neighbours(parent, generator(0))} - tried
        if len(around) >= 6:  # with fewer, random architectures are candidates too
            assert trial.architecture in around
            mutants += 1
    assert mutants > 20


def test_the_search_ends_where_everything_is_tried(tmp_path: Path) -> None:
    space = ToySpace(2)
    module = Bananas(space, Classification(), engine=ToyEngine(), trials=30, **SMALL)
    fit(module, None, tmp_path, epochs=1, every=1000)
    assert len({trial.architecture for trial, _ in module.history}) == len(module.history) == 9


def test_fewer_candidates_than_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.candidates=5.*strategy\.batch=6"):
        make(ToyEngine(), candidates=5)
