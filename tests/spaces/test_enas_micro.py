import math

import pytest
import torch
from torch.nn import functional as F

from lightning_nas import zoo
from lightning_nas.architecture import Decision
from lightning_nas.errors import InputError
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.macs import count_params
from lightning_nas.latency.sources import Macs
from lightning_nas.ops.cells import DropPath
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.penalties import Costs
from lightning_nas.testing.spaces import SpaceCase


def small(**options: object) -> ENASMicroSpace:
    sizes = {"image_size": 8, "in_channels": 1, "num_classes": 3, "layers": 1, "nodes": 3, "channels": 2}
    return ENASMicroSpace(**sizes | {"evaluation": (1, 2, 0.0)} | options)  # type: ignore[arg-type]


class TestEnasMicro(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return small()


class TestEnasMicroRetrained(SpaceCase):
    @pytest.fixture
    def space(self) -> SearchSpace:
        return small(image_size=9, nodes=2).evaluation()


def test_the_paper_counts_as_many_pairs_of_cells() -> None:
    space = ENASMicroSpace()
    operations = len(space.gate_options["normal_operations"])
    assert (operations * math.factorial(space.form.nodes)) ** 4 == 129_600_000_000
    assert math.prod(len(d.options) for d in space.decisions) == (5**5 * math.factorial(6)) ** 4


def test_decisions_follow_the_papers_order() -> None:
    first, second, third, fourth, *_, last = ENASMicroSpace().decisions
    assert first == Decision("normal_2_input_1", ("s0", "s1"), "normal_2", ("normal_0", "normal_1"))
    assert [d.name for d in (second, third, fourth)] == ["normal_2_input_2", "normal_2_op_1", "normal_2_op_2"]
    assert (first.is_index, third.is_index, last.name) == (True, False, "reduce_6_op_2")


def test_the_script_searches_8_cells_and_retrains_17() -> None:
    space = ENASMicroSpace()
    searched, retrained = space.form.searched(), space.evaluation().form
    assert [i for i, place in enumerate(searched) if place.kind == "reduce"] == [2, 5]
    assert [(place.channels, place.size) for place in searched][::3] == [(20, 32), (40, 16), (80, 8)]
    assert (retrained.layers + 2, retrained.channels, retrained.reductions) == (17, 36, (5, 11))
    assert [len(space.deeper(more).form.searched()) for more in (0, 3)] == [8, 11]


def test_every_operation_on_every_state_has_its_own_weights() -> None:
    space = small()
    with torch.device("meta"):
        supernet, cell = space.supernet(), space.supernet().network.cells[0]
    # of 3 nodes 2 x (2 + 3 + 4) inputs; each separable convolution twice depthwise, pointwise and batch norm
    channels = 4
    separable = sum(2 * (k * k * channels + channels * channels + 2 * channels) for k in (3, 5))
    assert count_params(cell.edges) == 18 * separable
    assert count_params(cell.output) == 5 * channels * channels + 2 * channels
    assert not [name for name, _ in supernet.named_buffers() if "running" in name]


def test_a_soft_cell_sums_over_all_states_and_operations() -> None:
    space = small(nodes=2)
    supernet = space.supernet().double()
    generator = torch.Generator().manual_seed(0)
    rows = {g: torch.rand(s, generator=generator).double().softmax(-1) for g, s in space.gate_shapes.items()}
    seen: dict[str, torch.Tensor] = {}
    cell = supernet.network.cells[0]
    cell.register_forward_hook(lambda _, given, y: seen.update(last=given[1], before=given[0], output=y))
    supernet(space.example(4, generator).double(), Gates.soft(rows))
    states = [cell.calibrate[0](seen["before"]), cell.calibrate[1](seen["last"])]
    unused = torch.ones(4, dtype=torch.float64)
    for node in range(2):
        total = torch.zeros_like(states[0])
        for slot in range(2):
            for j, state in enumerate(states):
                share = rows[f"reduce_{node + 2}_inputs"][slot, j]
                unused[j] *= 1 - share
                for weight, module in zip(
                    rows["reduce_operations"][2 * node + slot], cell.edges[f"{node}_{slot}_{j}"].values(), strict=True
                ):
                    total = total + share * weight * module(state)
        states.append(total)
    loose = zip(unused, states, cell.output.parts.values(), strict=True)
    total = sum(F.conv2d((weight * state).relu(), part.weight) for weight, state, part in loose)
    torch.testing.assert_close(seen["output"], cell.output.norm(total))


def test_paths_are_dropped_the_more_the_deeper_but_never_skips() -> None:
    network = zoo.space("enas_micro").network(zoo.load("enas_micro")).eval()
    drops = [module for module in network.modules() if isinstance(module, DropPath)]
    assert [drop.share for drop in drops] == pytest.approx([(layer + 1) / 17 for layer in range(17)])
    dropped: list[int] = []
    for drop in drops:
        drop.register_forward_hook(lambda *_: dropped.append(1))
    network(torch.zeros(1, 3, 32, 32))
    assert len(dropped) == 15 * (10 - 2) + 2 * (10 - 1)  # the normal cell has two skips, the reduction cell one


def test_the_cost_where_a_search_begins_is_the_one_expected_of_equal_gates() -> None:
    space = ENASMicroSpace()
    table = Macs()(space)
    uniform = Gates.soft({group: torch.full(shape, 1 / shape[1]) for group, shape in space.gate_shapes.items()})
    assert Costs.of(space, table).uniform == pytest.approx(float(ExpectedCost(space, table)(uniform)), rel=1e-5)


def test_sizes_that_cannot_be_are_refused() -> None:
    for options, words in (
        ({"image_size": 7}, "at least 8 pixels, got 7"),
        ({"nodes": 0}, "nodes: got 0; legal: int >= 1 and <= 64"),
        ({"channels": 3}, "even.*channels=3"),
    ):
        with pytest.raises(InputError, match=words):
            small(**options)
    with pytest.raises(InputError, match="29 to 40 pixels, got 28"):
        zoo._SPACES["enas_micro"](image_size=28).network(zoo.load("enas_micro"), auxiliary=True)
