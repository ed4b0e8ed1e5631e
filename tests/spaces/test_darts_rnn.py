from typing import Any

import pytest
import torch
from torch import nn

from lightning_nas import zoo
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_params
from lightning_nas.ops.mixed import plain
from lightning_nas.ops.recurrent import BatchStatistics, Window
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
from lightning_nas.testing.spaces import SpaceCase
from lightning_nas.training.seeding import seeded


class TestDartsRnn(SpaceCase):
    @pytest.fixture(params=["search", "evaluation"])
    def space(self, request: pytest.FixtureRequest) -> DARTSRNNSpace:
        space = DARTSRNNSpace("tiny", bptt=4, num_classes=7, width=6, steps=3, drop_words=0.1)
        return space if request.param == "search" else space.evaluation()


def tiny(**options: Any) -> DARTSRNNSpace:
    return DARTSRNNSpace("tiny", **{"bptt": 6, "num_classes": 7, "width": 5, "steps": 3} | options)


def test_the_papers_space_has_36_edges_of_5_options() -> None:
    space = DARTSRNNSpace()
    assert space.gate_shapes == {"steps": (36, 5)}
    assert space.gate_options == {"steps": ("none", "tanh", "relu", "sigmoid", "identity")}
    assert [space.nodes("steps").count(node) for node in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        search = DARTSRNNSpace()
        assert count_params(search.supernet()) == 4_810_000
        retrained = DARTSRNNSpace(evaluation={"width": 850}).evaluation()
        network = retrained.network(zoo.load("darts_v1_ptb"))
    assert count_params(network) == 22_960_000
    assert not any(isinstance(module, BatchStatistics) for module in network.modules())


def test_a_cell_computes_the_papers_formulas() -> None:
    space = tiny(norm=False)
    chosen = {"node_1_from": "s0", "node_1_op": "sigmoid", "node_2_from": "s1", "node_2_op": "relu"}
    architecture = space.validate(chosen | {"node_3_from": "s0", "node_3_op": "identity"})
    network = space.network(architecture).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    words = torch.tensor([[3, 1, 6]])
    first, (w1, w2, w3) = network.cell.first, network.cell.steps
    h, expected = torch.zeros(1, 5, dtype=torch.float64), []

    def update(s: torch.Tensor, weight: torch.Tensor, f: Any) -> torch.Tensor:
        c, g = (s @ weight)[:, :5], (s @ weight)[:, 5:]
        return s + torch.sigmoid(c) * (f(g) - s)

    for word in words[0]:
        both = torch.cat([network.embedding.weight[word][None], h], 1) @ first
        s0 = h + torch.sigmoid(both[:, :5]) * (torch.tanh(both[:, 5:]) - h)
        s1 = update(s0, w1, torch.sigmoid)
        s2, s3 = update(s1, w2, torch.relu), update(s0, w3, lambda g: g)
        h = (s1 + s2 + s3) / 3
        expected.append(h @ network.embedding.weight.T + network.bias)
    torch.testing.assert_close(network(words), torch.stack(expected, 1))


def test_two_windows_with_the_state_carried_equal_one_long_window() -> None:
    space = tiny()
    words = space.example(4, torch.Generator().manual_seed(0))
    supernet, gates = space.supernet().double().eval(), Gates.soft({"steps": torch.full((6, 5), 0.2)})
    network = space.evaluation().network(space.sample(torch.Generator().manual_seed(1))).double().eval()
    for run in (network, lambda x: supernet(x, gates)):
        first = Window(words[:, :4])
        halves = [run(first)]
        assert first.after is not None
        assert not first.after.requires_grad
        halves.append(run(Window(words[:, 4:], first.after)))
        torch.testing.assert_close(torch.cat(halves, 1), run(words))


def test_reading_a_window_twice_begins_with_the_same_state() -> None:
    space = tiny(norm=False)
    network = space.network(space.sample(torch.Generator().manual_seed(1))).eval()
    window = Window(space.example(2, torch.Generator().manual_seed(0)), torch.full((2, 5), 0.3))
    assert torch.equal(network(window), network(window))
    assert not torch.equal(network(window), network(window.words))


def test_dropout_masks_are_the_same_at_all_times() -> None:
    space = tiny(norm=False, drop_input=0.5, drop_x=0.0, drop_hidden=0.0, drop_output=0.0)
    network = space.network(space.sample(torch.Generator().manual_seed(1)))
    seen = []
    network.cell.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with seeded(0, "dropout"):
        network(torch.full((3, 6), 2))
    dropped = seen[0] == 0
    assert 0 < dropped.float().mean() < 1
    assert bool((dropped == dropped[:, :1]).all())
    kept = seen[0][~dropped]
    torch.testing.assert_close(kept / 2, network.embedding.weight[2].expand(3, 6, 5)[~dropped].detach())


def test_none_is_never_derived_and_one_predecessor_a_node_is() -> None:
    space = tiny()
    weights = torch.tensor(
        [[0.9, 0.1, 0, 0, 0]] + [[0.6, 0, 0.1, 0.3, 0], [0.1, 0.2, 0.2, 0.2, 0.25]] + [[1.0] + 4 * [0]] * 3
    )
    derived = space.derive({"steps": weights})
    assert str(derived) == "s0 tanh s0 sigmoid s0 tanh"
    generator = torch.Generator().manual_seed(0)
    assert all("none" not in space.sample(generator).options for _ in range(50))


def test_edges_mixed_at_once_equal_edges_mixed_one_by_one() -> None:
    space = tiny()
    told, own = space.supernet(plain).double().eval(), space.supernet().double().eval()
    own.load_state_dict(told.state_dict())
    x = space.example(4, torch.Generator().manual_seed(0))
    gates = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    active = ((0, 1, 2), (1, 2, 3, 4), (0,), (2,), (0, 1, 2, 3, 4), (0, 4))  # whatever is run
    losses = [net(x, Gates({"steps": gates}, {"steps": active})).square().sum() for net in (told, own)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)
    wanted = [gates, told.model.cell.first], [gates, own.model.cell.first]
    for one, other in zip(*(torch.autograd.grad(loss, w) for loss, w in zip(losses, wanted, strict=True)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_wrong_outputs_and_unknown_sizes_are_named() -> None:
    with pytest.raises(InputError, match="states 0 to 3; 4"):
        tiny(outputs=[1, 4])
    with pytest.raises(InputError, match=r"evaluation has no key 'depth'; legal: bptt.*drop_words"):
        tiny(evaluation={"depth": 3})
