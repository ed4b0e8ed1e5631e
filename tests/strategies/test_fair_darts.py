from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from lightning_nas import zoo
from lightning_nas.ops.cells import OPTIONS
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.space import EDGES, DARTSSpace
from lightning_nas.strategies.differentiable.fair_darts import FairDARTS, zero_one_loss
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import seeded


def make_fair_darts(seed: int = 0, **options: Any) -> FairDARTS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
        "zero_one": 0.1,  # on so small a problem the loss of the data is small too
    }
    with seeded(seed, "supernet"):
        return FairDARTS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestFairDarts(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., FairDARTS]:
        return make_fair_darts


def test_gates_are_independent_and_none_is_no_option() -> None:
    module = make_fair_darts(theta_std=1.0)
    gates = module.gates(torch.Generator())
    torch.testing.assert_close(gates.values["layers"], 1 / (1 + (-module.theta["layers"]).exp()))
    space = ToySpace()
    space.gate_options = {"layers": ("none", "swap", "keep")}
    module = FairDARTS(space, Classification(), threshold=0.85)
    assert module.gates(torch.Generator()).active == {"layers": ((1, 2), (1, 2))}
    assert module.probabilities()["layers"][:, 0].tolist() == [0, 0]


def test_the_architecture_loss_has_the_zero_one_loss_in_it() -> None:
    module = make_fair_darts(theta_std=1.0)
    batch = torch.randn(8, 1, 4, 4), torch.arange(8) % 4
    plain = module.task_loss(batch, module.gates(torch.Generator()))
    sigma = module.theta["layers"].sigmoid()
    torch.testing.assert_close(module.arch_loss(batch), plain - 0.1 * ((sigma - 0.5) ** 2).mean())
    assert zero_one_loss(torch.full((5,), 0.5), "l1") == 0


def test_the_answer_keeps_options_above_the_threshold_on_two_edges() -> None:
    space = DARTSSpace(image_size=8, in_channels=1, num_classes=4, cells=3, channels=4, evaluation=None)
    rows = torch.full((14, len(OPTIONS)), 0.1)
    for edge, strong in {
        0: {"skip_connect": 0.9, "sep_conv_3x3": 0.95, "dil_conv_5x5": 0.86},  # three: the weakest goes
        2: {"skip_connect": 0.84},
        3: {"skip_connect": 0.8},
        4: {"none": 0.99},  # below, and none is no option
        5: {"max_pool_3x3": 0.9},
        6: {"avg_pool_3x3": 0.88},
        7: {"sep_conv_5x5": 0.89},  # the weakest edge goes
        11: {"sep_conv_5x5": 0.99},
        12: {"sep_conv_3x3": 0.98},  # the latter from the second node: not there
    }.items():
        for option, weight in strong.items():
            rows[edge, OPTIONS.index(option)] = weight
    weak = torch.full((14, len(OPTIONS)), 0.1)
    weak[:, OPTIONS.index("dil_conv_3x3")] = 0.5
    module = FairDARTS(space, Classification(), threshold=0.85)
    with torch.no_grad():
        module.theta["normal"].copy_(rows.logit())
        module.theta["reduce"].copy_(weak.logit())
    answer = module.choose()
    cells = space.wider().genotypes(answer)
    assert cells["normal"].nodes == (
        (("skip_connect", 0), ("sep_conv_3x3", 0)),
        (),
        (("max_pool_3x3", 0), ("sep_conv_5x5", 2)),
        (("sep_conv_5x5", 2),),
        (),
    )
    assert cells["normal"].concat == (2, 4, 5)
    derived = module.derive()
    assert cells["reduce"].nodes[:4] == space.genotypes(derived)["reduce"].nodes  # nothing above it: the space's rule
    assert space.wider().network(answer)(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    module.threshold = None
    assert module.choose() == derived


@pytest.mark.parametrize("name", [f"fair_darts_{letter}" for letter in "abcdefg"])
def test_a_published_cell_is_recovered_from_its_own_weights(name: str) -> None:
    published, space = zoo.load(name), DARTSSpace()
    weights = {kind: torch.full((14, len(OPTIONS)), 0.1) for kind in ("normal", "reduce")}
    for kind, genotype in DARTSCellSpace().genotypes(published).items():
        for node, entries in enumerate(genotype.nodes):
            for option, state in entries:
                weights[kind][EDGES.index((node, state)), OPTIONS.index(option)] = 0.9
    assert space.derive_above(weights, 0.85) == published


def test_a_space_of_one_option_a_choice_answers_by_its_own_rule() -> None:
    module = make_fair_darts(theta_std=3.0, threshold=0.5)
    assert module.choose() == module.derive()


def test_validation_looks_at_the_weights_that_are_trained() -> None:
    module = make_fair_darts(theta_std=1.0)
    looked_at = module.validated()
    for group, theta in module.theta.items():
        torch.testing.assert_close(looked_at.gates.values[group], theta.detach().sigmoid())
