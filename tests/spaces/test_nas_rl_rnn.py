import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_nas import zoo
from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.ops.recurrent import Window
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.nas_rl.rnn import NASRLRNNSpace
from lightning_nas.spaces.nas_rl.tree_cells import Rule, Tree, TreeCell
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.testing.spaces import SpaceCase

PAPERS_EXAMPLE = {  # figure 5
    "node_0_combine": "add",
    "node_0_op": "tanh",
    "node_1_combine": "elem_mult",
    "node_1_op": "relu",
    "node_2_combine": "elem_mult",
    "node_2_op": "sigmoid",
    "inject_combine": "add",
    "inject_op": "relu",
    "memory_from": "node_1",
    "inject_at": "node_0",
}
WORDS = torch.tensor([[1.0], [2.0], [3.0]])


def tiny(**options: Any) -> NASRLRNNSpace:
    return NASRLRNNSpace("tiny", **{"bptt": 4, "num_classes": 7, "width": 6, "base": 2} | options)


def nascell() -> Tree:
    return NASRLRNNSpace().chosen(zoo.load("nascell"))


class TestNasRlRnn(SpaceCase):
    @pytest.fixture(params=[2, 3])
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        return tiny(base=request.param, drop_words=0.1, drop_hidden=0.1, evaluation={"width": 8})


def test_the_papers_space_has_as_many_cells() -> None:
    cells = math.prod(len(d.options) for d in NASRLRNNSpace().decisions)
    assert cells == 8**15 * 8 * 15**2 == pytest.approx(6.3e16, rel=1e-2)


def test_decisions_follow_the_papers_order() -> None:
    space = tiny()
    assert [d.name for d in space.decisions] == list(PAPERS_EXAMPLE)
    assert [d.name for d in space.decisions if d.is_index] == ["memory_from", "inject_at"]
    assert space.decisions[-1].refers == ("node_0", "node_1", "node_2")


def test_the_papers_example_computes_the_papers_formulas() -> None:
    tree = tiny().chosen(tiny().validate(PAPERS_EXAMPLE))
    cell = TreeCell(5, 4, tree).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in cell.parameters():
        nn.init.normal_(parameter, generator=generator)
    x, h, c = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (5, 4, 4))
    (w1, w3), (w2, w4) = cell.of_x.chunk(2, 1), cell.of_h.chunk(2, 1)
    a0 = torch.relu(torch.tanh(x @ w1 + h @ w2) + c)
    a1 = torch.relu((x @ w3) * (h @ w4))
    (new_h,), (new_c,) = cell(x[:, None], h, c)
    torch.testing.assert_close(new_h, torch.sigmoid(a0 * a1))
    torch.testing.assert_close(new_c, (x @ w3) * (h @ w4))


@pytest.mark.parametrize(
    ("projection", "h", "c"),
    [
        (None, (0.5767508, 0.6189357, 0.6273934), (0.7157977, 0.7804162, 0.7945764)),
        (5, (1.6974180, 1.8400369, 1.8739852), (0.6985521, 0.7707382, 0.7897398)),
    ],
)
def test_nascell_gives_the_numbers_of_its_official_test(
    projection: int | None, h: tuple[float, ...], c: tuple[float, ...]
) -> None:
    cell = TreeCell(4, 6, nascell(), projection=projection).double()
    for parameter in cell.parameters():
        nn.init.constant_(parameter, 0.5)
    x, columns = WORDS.double().expand(3, 4), projection or 6
    start = x.new_full((3, columns), 0.1), x.new_full((3, 6), 0.1)
    (new_h,), (new_c,) = cell(x[:, None], *start)
    expected_h, expected_c = (torch.tensor(rows, dtype=torch.float64)[:, None] for rows in (h, c))
    torch.testing.assert_close(new_h, expected_h.expand(3, columns), rtol=1e-6, atol=0)
    torch.testing.assert_close(new_c, expected_c.expand(3, 6), rtol=1e-6, atol=0)


def test_nascell_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert count_params(TreeCell(4, 6, nascell())) == 8 * 6 * (4 + 6)
        assert count_params(TreeCell(740, 740, nascell())) == 8 * 740 * (740 + 740)


@pytest.mark.parametrize(("width", "millions"), [(650, 20), (740, 25), (1152, 54)])
def test_the_widths_give_the_papers_model_sizes(width: int, millions: int) -> None:
    with torch.device("meta"):
        network = NASRLRNNSpace(width=width).network(zoo.load("nascell"))
    params = 2 * 8 * width * (2 * width) + 10_000 * width + 10_000  # two cells, the embedding, the decoder's biases
    assert count_params(network) == params
    assert round(params / 1e6) == millions
    assert count_macs(network, (35,), torch.int64) == 35 * (params - 10_000)


def test_searched_and_retrained_networks_have_their_sizes() -> None:
    assert NASRLRNNSpace(evaluation={"width": 740}).evaluation().width == zoo.space("nascell", 10_000).width == 740


def test_layers_feed_each_other_and_remember_by_themselves() -> None:
    space = tiny(layers=2, base=4)
    network = space.network(space.sample(torch.Generator().manual_seed(3))).double().eval()
    below, above = network.cell.cells
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    states: list[list[Tensor]] = [[torch.zeros(1, 6, dtype=torch.float64)] * 2 for _ in range(2)]
    expected = []
    for word in (3, 1, 6):
        x = network.embedding.weight[word][None, None]
        for layer, cell in enumerate((below, above)):
            states[layer] = [step[0] for step in cell(x, *states[layer])]
            x = states[layer][0][:, None]
        expected.append(x[:, 0] @ network.embedding.weight.T + network.bias)
    torch.testing.assert_close(network(torch.tensor([[3, 1, 6]])), torch.stack(expected, 1))


def test_two_windows_with_both_states_carried_equal_one_long_window() -> None:
    space = tiny(bptt=6, base=8, layers=2)
    words = space.example(4, torch.Generator().manual_seed(0))
    network = space.network(space.validate(dict(zoo.load("nascell").choices))).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    first = Window(words[:, :4])
    halves = [network(first)]
    assert first.after is not None
    assert first.states is not None
    assert first.after.shape == (4, 2 * 2 * 6)
    assert first.states.shape == (4, 4, 6)  # those that the decoder reads
    halves.append(network(Window(words[:, 4:], first.after)))
    torch.testing.assert_close(torch.cat(halves, 1), network(words))
    hidden_alone = network(Window(words[:, 4:], torch.cat([first.after[:, :12], torch.zeros(4, 12)], 1)))
    assert not torch.allclose(hidden_alone, halves[1], rtol=1e-3)


def test_each_layer_has_a_dropout_mask_of_its_own() -> None:
    space = tiny(layers=2)
    cells, seen = space.network(space.sample(torch.Generator().manual_seed(0))).train().cell, list[Tensor]()
    for cell in cells.cells:
        cell.register_forward_pre_hook(lambda _, args: seen.extend((args[0], args[3])))
    x, masks = torch.ones(3, 2, 6), torch.arange(24.0).view(1, 2, 12).expand(3, 2, 12)
    cells(x, torch.zeros(3, cells.memory), masks[:, 0], masks[:, 1])
    torch.testing.assert_close(seen[0], masks[:, 0, None, :6].expand(3, 2, 6))
    assert [hidden[0].tolist() for hidden in seen[1::2]] == [[*range(12, 18)], [*range(18, 24)]]


def test_a_controller_attends_to_the_nodes_for_the_cell_indices() -> None:
    space = tiny()
    controller = Controller(space, torch.Generator().manual_seed(0), hidden=8)
    drawn = controller.sample(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(controller.replay(drawn.architectures).log_probabilities, drawn.log_probabilities)
    drawn.log_probabilities.sum().backward()
    assert controller.attention.weight.grad.abs().sum() > 0
    assert all(space.validate(a) == a for a in drawn.architectures)


def test_trees_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="base: got 1; legal: int >= 2 and <= 64"):
        tiny(base=1)
    with pytest.raises(InputError, match=r"evaluation has no key 'norm'; legal: bptt.*drop_words"):
        tiny(evaluation={"norm": False})


def test_a_tree_of_any_base_combines_all_below_the_root() -> None:
    for base in range(2, 10):
        rule = Rule("add", "identity")
        ones = [torch.ones(1, 1)] * base
        h, c = Tree((rule,) * (2 * base - 1), rule, 2 * base - 2, 0)(ones, ones, torch.zeros(1, 1))
        assert h.item() == c.item() == 2 * base
