from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.darts import DartsSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.spos import SPOS, fair_paths
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.recalibrate import recalibrate
from lightning_nas.training.seeding import seeded


def make_spos(seed: int = 0, table: bool = True, **options: Any) -> SPOS:
    defaults = {"weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "score_batches": 2}
    defaults |= {"generations": 2, "population": 2, "parents": 1}
    space = ToySpace()
    with seeded(seed, "supernet"):
        return SPOS(space, Classification(), Macs()(space) if table else None, seed=seed, **defaults | options)


class TestSPOS(StrategyCase):
    # the evolution looks at no more than five of the nine architectures
    search_options: ClassVar = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
        **{"generations": 5, "population": 1, "parents": 1, "mutation": 0.5},
    }
    search_epochs = 16

    @pytest.fixture
    def make(self) -> Callable[..., SPOS]:
        return make_spos

    def found(self, module: SearchModule) -> Architecture:
        answer = module.answer()
        assert len(module.evolved) <= 5
        return answer
