import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Decision
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_params
from lightning_nas.ops.altered import PartialMixedOp
from lightning_nas.ops.mixed import Choice
from lightning_nas.ops.recurrent import ACTIVATIONS, BatchStatistics, Window
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.recurrent.enas import ENASRNNSpace
from lightning_nas.testing.spaces import SpaceCase


def tiny(**options: Any) -> ENASRNNSpace:
    return ENASRNNSpace("tiny", **{"bptt": 4, "num_classes": 7, "width": 6, "nodes": 4} | options)


class TestEnasRnn(SpaceCase):
    @pytest.fixture(params=["search", "evaluation"])
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        space = tiny(drop_words=0.1)
        return space if request.param == "search" else space.evaluation()


def test_the_papers_space_has_as_many_cells() -> None:
    space = ENASRNNSpace()
    assert math.prod(len(d.options) for d in space.decisions) == 4**12 * math.factorial(11) == 669_692_775_628_800


def test_the_supernet_has_a_matrix_for_every_pair_of_nodes() -> None:
    space = ENASRNNSpace(width=850)
    architecture = space.sample(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        supernet, network = space.supernet(), space.network(architecture)
    assert count_params(network) == 27_295_000  # of the authors' cell in DARTS' code, which has as many nodes
    assert count_params(supernet) - count_params(network) == (66 - 11) * 850 * 1700


def test_decisions_are_the_papers_and_inputs_are_choices_of_earlier_nodes() -> None:
    decisions = tiny().decisions
    names = ["node_1_op", "node_2_op", "node_3_from", "node_3_op", "node_4_from", "node_4_op"]
    assert [d.name for d in decisions] == names
    assert decisions[4] == Decision("node_4_from", ("s1", "s2", "s3"), "node_4", ("node_1", "node_2", "node_3"))
    assert [d.is_index for d in decisions] == [False, False, True, False, True, False]


def _step(s: torch.Tensor, both: torch.Tensor, f: Any) -> torch.Tensor:
    c, g = both.chunk(2, 1)
    return torch.sigmoid(c) * f(g) + (1 - torch.sigmoid(c)) * s


def test_a_cell_computes_the_papers_formulas() -> None:
    space = tiny(norm=False)
    chosen = {"node_1_op": "sigmoid", "node_2_op": "relu", "node_3_from": "s1", "node_3_op": "identity"}
    network = space.network(space.validate(chosen | {"node_4_from": "s2", "node_4_op": "tanh"})).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    first, (w12, w13, w24) = network.cell.first, network.cell.steps
    h, expected = torch.zeros(1, 6, dtype=torch.float64), []
    for word in (3, 1, 6):
        h1 = _step(h, torch.cat([network.embedding.weight[word][None], h], 1) @ first, torch.sigmoid)
        h2, h3 = _step(h1, h1 @ w12, torch.relu), _step(h1, h1 @ w13, lambda g: g)
        h4 = _step(h2, h2 @ w24, torch.tanh)
        h = (h3 + h4) / 2  # the loose ends
        expected.append(h @ network.embedding.weight.T + network.bias)
    torch.testing.assert_close(network(torch.tensor([[3, 1, 6]])), torch.stack(expected, 1))


def test_a_soft_cell_sums_over_all_nodes_and_activations() -> None:
    space = tiny(norm=False, nodes=3)
    model = space.supernet().double().eval().model
    generator = torch.Generator().manual_seed(0)
    rows = {g: torch.rand(s, generator=generator).double().softmax(-1) for g, s in space.gate_shapes.items()}
    functions = [torch.tanh, torch.relu, torch.sigmoid, lambda g: g]
    taken, activations = rows["node_3_input"][0], rows["operations"]

    def mixed(node: int, s: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
        return sum(w * _step(s, both, f) for w, f in zip(activations[node], functions, strict=True))

    cell, h, expected = model.cell, torch.zeros(1, 6, dtype=torch.float64), []
    for word in (3, 1):
        h1 = mixed(0, h, torch.cat([model.embedding.weight[word][None], h], 1) @ cell.first)
        h2 = mixed(1, h1, h1 @ cell.pairs["1_0"])
        h3 = taken[0] * mixed(2, h1, h1 @ cell.pairs["2_0"]) + taken[1] * mixed(2, h2, h2 @ cell.pairs["2_1"])
        h = ((1 - taken[1]) * h2 + h3) / (2 - taken[1])  # node 2 always takes node 1
        expected.append(h @ model.embedding.weight.T + model.bias)
    torch.testing.assert_close(model(torch.tensor([[3, 1]]), Gates.soft(rows)), torch.stack(expected, 1))


def test_a_path_is_the_same_to_the_bit_with_and_without_products_with_one() -> None:
    space = tiny(drop_hidden=0.5)
    supernet, words = space.supernet(), space.example(4, torch.Generator().manual_seed(0))
    for seed in range(8):
        path, results = space.gates(space.sample(torch.Generator().manual_seed(seed))), []
        for gates in (path, Gates(path.values, path.active)):
            supernet.zero_grad()
            torch.manual_seed(seed)
            logits = supernet(words, gates)
            logits.square().sum().backward()
            results.append([logits, *(p.grad for p in supernet.parameters())])
        assert path.one_path
        for one, other in zip(*results, strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


def test_two_windows_with_the_state_carried_equal_one_long_window() -> None:
    space = tiny(bptt=6, norm=False)
    words = space.example(4, torch.Generator().manual_seed(0))
    architecture = space.sample(torch.Generator().manual_seed(1))
    supernet, gates = space.supernet().double().eval(), space.gates(architecture)
    first = Window(words[:, :4])
    halves = [supernet(first, gates)]
    halves.append(supernet(Window(words[:, 4:], first.after), gates))
    torch.testing.assert_close(torch.cat(halves, 1), supernet(words, gates))


def test_the_retrained_cell_has_no_norm_and_the_scripts_width() -> None:
    evaluation = ENASRNNSpace(evaluation={"width": 748}).evaluation()
    architecture = evaluation.sample(torch.Generator().manual_seed(0))
    with torch.device("meta"):
        network = evaluation.network(architecture)
    assert (evaluation.width, evaluation.steps) == (748, 12)
    assert not any(isinstance(module, BatchStatistics) for module in network.modules())


def test_too_few_nodes_and_unknown_sizes_are_named() -> None:
    with pytest.raises(InputError, match="at least 2 nodes, got 1"):
        tiny(nodes=1)
    with pytest.raises(InputError, match=r"evaluation has no key 'depth'; legal: bptt.*drop_words"):
        tiny(evaluation={"depth": 3})


def test_partial_channels_are_shuffled_as_those_of_images() -> None:
    choice = Choice(("tanh", "relu"), lambda option, *_: ACTIVATIONS[option](), 6, 6)
    mixed, x = PartialMixedOp(choice, 3), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    gates = torch.tensor([0.25, 0.75])
    torch.testing.assert_close(mixed(x, gates, (0, 1)), mixed(x[..., None], gates, (0, 1))[..., 0])
