import itertools
import math

import pytest
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.errors import LatencyTableError
from lightning_nas.latency.cost import ExpectedCost
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.chains.fbnet import OPTIONS, FBNetSpace
from lightning_nas.spaces.gates import Gates


def test_the_gradient_of_a_gate_is_its_entry(space: FBNetSpace, table: LatencyTable) -> None:
    gates = torch.full((3, 9), 1 / 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(ExpectedCost(space, table)(Gates.soft({"layers": gates})), gates)
    for layer, row in zip(space.layers, gradient.tolist(), strict=True):
        assert row == [table[layer.key(option)] for option in OPTIONS]


@pytest.mark.parametrize("seed", range(10))
def test_one_hot_gates_cost_what_the_architecture_costs(space: FBNetSpace, table: LatencyTable, seed: int) -> None:
    architecture = space.sample(torch.Generator().manual_seed(seed))
    cost = ExpectedCost(space, table)(space.gates(architecture))
    assert cost.dtype == torch.float32
    assert cost.item() == pytest.approx(sum(table[key] for key in space.cost_keys(architecture)), rel=2**-23)


def test_expected_cost_is_the_mean_over_all_architectures(space: FBNetSpace, table: LatencyTable) -> None:
    probabilities = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mean = 0.0
    for chosen in itertools.product(range(9), repeat=3):
        choices = tuple((d.name, OPTIONS[i]) for d, i in zip(space.decisions, chosen, strict=True))
        chance = math.prod(probabilities[layer, i].item() for layer, i in enumerate(chosen))
        mean += chance * space.cost(Architecture("toy", choices), table)
    assert ExpectedCost(space, table)(Gates.soft({"layers": probabilities})).item() == pytest.approx(mean, rel=1e-6)


def test_the_constant_of_a_table_is_part_of_every_cost_and_of_no_gradient(
    space: FBNetSpace, table: LatencyTable
) -> None:
    with_constant = table.model_copy(update={"constant": 1000.0})
    architecture = space.sample(torch.Generator().manual_seed(0))
    assert space.cost(architecture, with_constant) == space.cost(architecture, table) + 1000
    gates = torch.full((3, 9), 1 / 9, requires_grad=True)
    costs = [ExpectedCost(space, t)(Gates.soft({"layers": gates})) for t in (table, with_constant)]
    assert (costs[1] - costs[0]).item() == 1000.0
    gradients = [torch.autograd.grad(cost, gates)[0] for cost in costs]
    assert gradients[0].equal(gradients[1])


def test_half_precision_gates_are_summed_in_single(space: FBNetSpace) -> None:
    costs = {key: 1.0 + i / 1000 for i, key in enumerate(space.operations())}
    gates = space.gates(space.sample(torch.Generator().manual_seed(0)))
    half = Gates({group: m.bfloat16() for group, m in gates.values.items()}, gates.active)
    cost = ExpectedCost(space, costs)
    assert cost(half).item() == cost(gates).item()


def test_the_table_is_not_part_of_the_state_and_moves_with_the_module(space: FBNetSpace, table: LatencyTable) -> None:
    cost = ExpectedCost(space, table)
    assert not cost.state_dict()
    assert {buffer.device.type for buffer in cost.to("meta").buffers()} == {"meta"}


def test_a_missing_operation_is_refused(space: FBNetSpace, table: LatencyTable) -> None:
    costs = dict(table)
    del costs[space.layers[2].key("k5_e6")]
    with pytest.raises(LatencyTableError, match="k5_e6"):
        ExpectedCost(space, costs)
