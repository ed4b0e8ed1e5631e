from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_nas.strategies.differentiable.gdas import GDAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToyNodeSpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_gdas(seed: int = 0, **options: Any) -> GDAS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.02, momentum=0.9),  # at 0.1 one path at a time diverges
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return GDAS(ToyNodeSpace(), Classification(), seed=seed, **defaults | options)


class TestGdas(StrategyCase):
    """On operations that are added: in a chain a straight-through gate scales what the next batch norm scales back."""

    @pytest.fixture
    def make(self) -> Callable[..., GDAS]:
        return make_gdas


def at_epoch(module: GDAS, epoch: int, epochs: int) -> GDAS:
    class Clock:
        current_epoch, max_epochs = epoch, epochs

    module._trainer, module._fabric = Clock, None  # type: ignore[assignment]
    return module


def test_the_temperature_falls_from_10_to_a_tenth() -> None:
    module = make_gdas()
    assert at_epoch(module, 0, 250).tau == 10
    assert at_epoch(module, 249, 250).tau == pytest.approx(0.1)


def test_one_option_runs_with_the_gradient_of_the_soft_sample() -> None:
    module = at_epoch(make_gdas(theta_std=1.0), 1, 5)
    gates = module.gates(torch.Generator().manual_seed(0))
    theta, rows = module.theta["layers"], gates.values["layers"]
    noise = -torch.empty(theta.shape).exponential_(generator=torch.Generator().manual_seed(0)).log()
    soft = ((theta.log_softmax(-1) + noise) / module.tau).softmax(-1)
    assert rows.tolist() == torch.nn.functional.one_hot(soft.argmax(-1), 3).tolist()
    assert [len(active) for active in gates.active["layers"]] == [1, 1]
    weighting = torch.arange(6.0).view(2, 3)
    ours, truth = (torch.autograd.grad((m * weighting).sum(), theta)[0] for m in (rows, soft))
    torch.testing.assert_close(ours, truth)


def test_options_that_are_not_drawn_keep_their_weights(tmp_path: Path) -> None:
    module = make_gdas(arch_warmup_epochs=1)
    module.check_length = lambda *_: None  # type: ignore[method-assign]
    before = {name: p.clone() for name, p in module.supernet.named_parameters()}
    module.generator = lambda stream: torch.Generator().manual_seed(0)  # type: ignore[method-assign]
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    drawn = [row[0] for row in module.gates(torch.Generator().manual_seed(0)).active["layers"]]
    for name, parameter in module.supernet.named_parameters():
        if ".keep." in name and drawn[int(name.split(".")[1])] != 2:
            assert torch.equal(parameter, before[name])
