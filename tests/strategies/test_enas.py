from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import torch

from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.strategies.controller import Controller
from lightning_nas.strategies.one_path.enas import Enas
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import seeded


def make_enas(seed: int = 0, space: WeightSharingSpace | None = None, **options: Any) -> Enas:
    defaults: dict[str, Any] = {
        "controller": partial(Controller, hidden=16),
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.03, betas=(0.0, 0.999), eps=1e-3),
        "baseline_decay": 0.9,
        "score_batches": 2,
        "aggregate": 4,
    }
    with seeded(seed, "supernet"):
        return Enas(space or ToySpace(), Classification(), seed=seed, **defaults | options)


class TestEnas(StrategyCase):
    # most paths of the toy mislead the head: weights learn slowly, and first
    search_options: ClassVar = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
        "arch_warmup_epochs": 4,
    }
    search_epochs = 16

    @pytest.fixture
    def make(self) -> Callable[..., Enas]:
        return make_enas
