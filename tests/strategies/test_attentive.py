"""AttentiveNAS: the contract, which architectures it compares, and which of them it trains."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch.nn import functional as F
from views import NestedToySpace, NestedViewSpace, ViewData

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.one_path.attentive import AttentiveNAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.distributed import two_ranks
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import CLASSES, SIZE, ToyData, ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.seeding import generator, seeded

QUICK: dict[str, Any] = {**PLAIN, "generations": 1, "population": 2, "parents": 1, "calibration_batches": 1}


def make_attentive(seed: int = 0, space: type[ToySpace] = NestedToySpace, **options: Any) -> AttentiveNAS:
    defaults = QUICK | {"weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "score_batches": 2}
    made = space()
    with seeded(seed, "supernet"):
        return AttentiveNAS(made, Classification(), Macs()(made), seed=seed, **{"between": 1} | defaults | options)


def make_elastic(seed: int = 0, **options: Any) -> AttentiveNAS:
    stages = [((8, 16), (1, 2), (3, 5), (1,), 1, False), ((8, 16), (1,), (3,), (2, 3), 2, True)]
    sizes: dict[str, Any] = {"image_size": SIZE, "in_channels": 1, "num_classes": CLASSES, "resolutions": [SIZE]}
    told = {"stem": [8], "stem_stride": 1, "stages": stages, "mix": [16], "dropout": 0.5, "spare_shortcuts": False}
    with seeded(seed, "supernet"):
        return AttentiveNAS(
            AttentiveNASSpace(**sizes, **told), seed=seed, **QUICK | {"between": 1, "bins": 5} | options
        )


class TestAttentiveNAS(StrategyCase):
    """The evolution scores 24 of 81 architectures."""

    epochs = 1
    search_options: ClassVar = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
        "space": NestedViewSpace,
        "generations": 6,
        "population": 4,
        "parents": 2,
        "mutation": 0.2,
    }
    search_epochs, search_seeds, found_at_least, candidates, paths = 2, 1, 1, 24, 3

    @pytest.fixture
    def make(self) -> Callable[..., AttentiveNAS]:
        return make_attentive

    @pytest.fixture
    def lessons(self) -> SearchData:
        return ViewData()

    def found(self, module: SearchModule) -> Architecture:
        return module.answer()


def test_candidates_are_of_about_one_cost_and_the_first_is_uniform() -> None:
    module = make_elastic(bins=8, candidates=4)
    space, table = module.space, Macs()(module.space)
    low, high = (space.cost(architecture, table) for architecture in (space.smallest, space.largest))
    several = 0
    for seed in range(20):
        found = module.alike(torch.Generator().manual_seed(seed))
        costs = [space.cost(architecture, table) for architecture in found]
        assert len({int((cost - low) // ((high - low) / 8)) for cost in costs}) == 1
        assert len(set(found)) == len(found) <= 4
        assert found[0] == space.sample(torch.Generator().manual_seed(seed))
        several += len(found) > 1
    assert several > 15


@pytest.mark.parametrize("attend", ["best", "worst"])
def test_the_best_or_the_worst_candidate_of_a_batch_is_trained(tmp_path: Path, attend: str) -> None:
    """By losses of the largest weights' slices on the batch, computed here without gradient and without dropout."""
    module, seen = make_elastic(attend=attend, weights_optimizer=partial(torch.optim.SGD, lr=0.0)), []
    original = module.taken

    def noted(batch: Any, draw: torch.Generator) -> Architecture:
        seen.append(original(batch, draw))
        return seen[-1]

    module.taken = noted  # type: ignore[method-assign]

    class Watch(Callback):
        def on_train_batch_end(self, t: Any, m: AttentiveNAS, outputs: Any, batch: Any, i: int) -> None:
            (x, y), m.supernet.head.dropout.training = batch["weights"], False
            losses = {
                candidate: float(F.cross_entropy(m.supernet(x, m.space.gates(candidate)).detach(), y))
                for candidate in m.alike(generator(m.seed, "weights", m.position))
            }
            m.supernet.head.dropout.training = True
            assert seen[-1] == (min if attend == "best" else max)(losses, key=losses.__getitem__)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert len(seen) == module.weights_steps > 2


def test_on_an_elastic_space_two_processes_end_equal(tmp_path: Path) -> None:
    """They compare candidates by the mean of their losses."""
    with one_thread():
        first, second = two_ranks(partial(make_elastic, 2), ToyData(304, val_fraction=0.15), tmp_path)
    assert first == second
