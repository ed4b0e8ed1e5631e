import math
from functools import partial
from typing import Any

import pytest
import torch

from lightning_nas.errors import LatencyTableError
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import DifferentiableSearch
from lightning_nas.strategies.penalties import AddLinear, Costs, FBNetProduct, MnasNetProduct, MulLog, Penalty
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToySpace, toy_images

COSTS = Costs("toy", "ms", cheapest=20.0, uniform=80.0)
SPACE = ToySpace()
MACS = Macs()(SPACE)  # stem 64, head 256, keep 256, blur and swap 0


class Softmax(DifferentiableSearch):
    """The least there is: mixes by the softmax of its logits."""

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft(self.distribution())


def search(penalty: Penalty | None, table: LatencyTable | None = MACS) -> Softmax:
    options: dict[str, Any] = {
        **PLAIN_ARCH,
        "theta_std": 0.0,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1),
        "arch_optimizer": partial(torch.optim.Adam),
    }
    return Softmax(SPACE, Classification(), table, penalty=penalty, **options)


def value(penalty: Penalty, costs: Costs = COSTS, loss: float = 2.5, cost: float = 90.0) -> float:
    return penalty.bind(costs)(torch.tensor(loss).double(), torch.tensor(cost).double()).item()


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (MulLog(0.2, 0.3, reference=80.0), 0.5039944),
        (MulLog(0.2, 0.3), 0.5039944),  # the search begins at 80 ms
        (MulLog(0.2, 0.3, scale=1000.0), 2.5 * 0.2 * (math.log(90_000) / math.log(80_000)) ** 0.3),
        (AddLinear(0.1, reference=80.0), 2.5125),
        (AddLinear(0.1), 2.5125),
        (FBNetProduct(0.2, 0.6), 2.5 * 0.2 * math.log(90_000) ** 0.6),
        (MnasNetProduct(75.0), 2.5 * (90 / 75) ** 0.07),
        (MnasNetProduct(95.0, alpha=0.0, beta=-1.0), 2.5),
        (MnasNetProduct(75.0, alpha=0.0, beta=-1.0), 3.0),
    ],
)
def test_each_penalty_has_its_papers_value(penalty: Penalty, expected: float) -> None:
    assert value(penalty) == pytest.approx(expected, abs=1e-7)


def test_mnasnets_reward_is_the_papers() -> None:
    assert MnasNetProduct(75.0).reward(0.75, 78.0, COSTS) == pytest.approx(0.7479437, abs=1e-7)
    assert MnasNetProduct(alpha=-0.1, beta=-0.1).reward(0.7, 90.0, COSTS) == pytest.approx(0.6918036, abs=1e-7)


def test_the_costs_of_a_space() -> None:
    costs = Costs.of(SPACE, MACS)
    by_hand = [SPACE.cost(a, MACS) for a in (SPACE.validate({"layer_1": "blur", "layer_2": "swap"}), SPACE.best)]
    assert (costs.unit, costs.cheapest) == ("MACs", by_hand[0])
    assert costs.uniform == pytest.approx(by_hand[0] + (by_hand[1] - by_hand[0]) / 3)


def test_the_penalty_enters_the_architecture_loss_and_only_that() -> None:
    images, labels = toy_images(8, seed=0)
    batch = (images.float() / 255, labels)
    plain, penalised = search(None), search(AddLinear(0.5, reference=400.0))
    penalised.load_state_dict(plain.state_dict())
    expected = Costs.of(SPACE, MACS).uniform
    difference = penalised.arch_loss(batch) - plain.arch_loss(batch)
    assert difference.item() == pytest.approx(0.5 * (expected - 400) / 400, abs=1e-6)
    assert penalised.weights_loss(batch).item() == plain.weights_loss(batch).item()


def test_a_penalty_alone_leads_to_the_cheapest_options() -> None:
    module = search(AddLinear(1.0))
    module.penalised(torch.zeros(())).backward()
    gradient = module.theta["layers"].grad
    assert gradient is not None
    assert (gradient[:, 2] > 0).all()
    assert (gradient[:, :2] < 0).all()


def test_a_penalty_without_a_table_measures_the_operations() -> None:
    table = search(AddLinear(), table=None).table
    assert table is not None
    assert table.unit == "ms"
    assert search(None, table=None).table is None


def test_penalties_that_are_not_defined_are_refused() -> None:
    with pytest.raises(LatencyTableError, match=r"mul#log.*more than 1 ms x scale"):
        MulLog(reference=0.9).bind(COSTS)
    with pytest.raises(LatencyTableError, match="FBNet"):
        FBNetProduct().bind(Costs("toy", "ms", cheapest=0.0005, uniform=1.0))


@pytest.mark.parametrize(
    "penalty", [AddLinear(), MnasNetProduct(), MnasNetProduct(target=2.0), FBNetProduct(), MulLog()]
)
def test_a_space_that_costs_nothing_is_refused(penalty: Penalty) -> None:
    free = MACS.model_copy(update={"entries": dict.fromkeys(MACS.entries, Entry(median=0.0, iqr=0.0))})
    with pytest.raises(LatencyTableError, match=r"toy.*cost") as caught:
        search(penalty, free)
    assert "\n" not in str(caught.value)


def test_costs_of_zero_have_no_reward_but_a_flat_one() -> None:
    some = Costs("toy", "ms", cheapest=0.0, uniform=80.0)
    with pytest.raises(LatencyTableError, match=r"power -0\.07 of the cost; use .* or alpha=0"):
        MnasNetProduct().bind(some)
    with pytest.raises(LatencyTableError, match="costs 0 ms"):
        MnasNetProduct().reward(0.9, 0.0, COSTS)
    assert MnasNetProduct(alpha=0.0, beta=-1.0).reward(0.9, 0.0, some) == 0.9
    flat, cost = MnasNetProduct(alpha=0.0, beta=-1.0).bind(some), torch.zeros((), requires_grad=True)
    flat(torch.ones(()), cost).backward()
    assert cost.grad is not None
    assert cost.grad.item() == 0
    assert value(AddLinear(0.1), some, cost=0.0) == pytest.approx(2.4)
