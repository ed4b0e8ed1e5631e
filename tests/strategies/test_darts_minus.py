from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.strategies.differentiable.darts_minus import DARTSMinus
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_darts_minus(seed: int = 0, **options: Any) -> DARTSMinus:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return DARTSMinus(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestDartsMinus(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., DARTSMinus]:
        return make_darts_minus


def test_the_skip_beside_the_mixture_counts_in_training_and_fades_out(tmp_path: Path) -> None:
    from lightning_nas.ops.altered import AuxiliaryMixedOp
    from lightning_nas.ops.mixed import Choice, MixedOp

    choice = Choice(("a", "b"), lambda name, i, o: torch.nn.Conv2d(i, o, 1), 4, 4)
    mixed = AuxiliaryMixedOp(choice)
    x, gates = torch.randn(2, 4, 3, 3), torch.tensor([0.3, 0.7])
    alone = MixedOp({"a": mixed["a"], "b": mixed["b"]})(x, gates, (0, 1))
    for beta in (1.0, 0.25, 0.0):
        mixed.beta = beta
        torch.testing.assert_close(mixed(x, gates, (0, 1)), alone + beta * x)

    module = make_darts_minus()
    fit(module, ToyData(), tmp_path, epochs=4, every=1000)
    assert [m.beta for m in module.supernet.modules() if isinstance(m, AuxiliaryMixedOp)] == [0.25, 0.25]


def test_the_derived_network_has_no_auxiliary_skip() -> None:
    module = make_darts_minus()
    network = module.inherited(module.derive())
    assert not [name for name, _ in network.named_modules() if "auxiliary" in name]
