from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.random_ws import RandomWS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_random(seed: int = 0, **options: Any) -> RandomWS:
    defaults: dict[str, Any] = {
        **PLAIN,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return RandomWS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestRandomSharing(StrategyCase):
    # all nine are looked at: what is proved is that inherited weights rank them, though most paths mislead the head
    search_options: ClassVar = {"candidates": 60, "weights_optimizer": partial(torch.optim.SGD, lr=0.05)}
    search_epochs = 16

    @pytest.fixture
    def make(self) -> Callable[..., RandomWS]:
        return make_random

    def found(self, module: SearchModule) -> Architecture:
        return module.answer()


def test_the_answer_is_the_best_scored(tmp_path: Path) -> None:
    module = make_random(candidates=5)
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    answer = module.answer()
    assert 1 <= len(module.scored) <= 5
    assert module.scored[answer] == max(module.score(architecture) for architecture in module.scored)


def test_validation_recalibrates_one_sample_with_inherited_weights(tmp_path: Path) -> None:
    module, data = make_random(), ToyData()
    fit(module, data, tmp_path, epochs=2, every=1000)
    network = module.inherited(module.sample(module.generator("validation")))
    for norm in (part for part in network.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.momentum = None
        norm.reset_running_stats()
    calibration, [(x, _), *_] = module.calibration(), module.scoring()
    with torch.no_grad():
        for images, _ in calibration:
            network.train()(images)
        torch.testing.assert_close(module.validated().eval()(x), network.eval()(x))


def test_a_search_that_draws_again_trains_no_network_without_a_path() -> None:
    """The draws are those of the plain search without the cells that have no path, with the same generator."""
    space = NASBench201Space(image_size=8, in_channels=1, channels=4, cells=(1,))
    plain = RandomWS(space, Classification())
    again = RandomWS(space, Classification(), redraw=True)
    draw = torch.Generator().manual_seed(3)
    drawn = [plain.sample(draw) for _ in range(200)]
    expected = [architecture for architecture in drawn if space.has_path(architecture)]
    assert len(expected) < len(drawn)
    draw.manual_seed(3)
    assert [again.sample(draw) for _ in expected] == expected
