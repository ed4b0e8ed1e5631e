import math
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from scipy.stats import kendalltau

from lightning_nas.functional.ranking import diverged_last, kendall_tau
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import one_thread
from lightning_nas.truth.stand_alone import StandAlone


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def truth(cache: Path, epochs: int = 3, lr: float = 0.1) -> StandAlone:
    return StandAlone(cache_dir=str(cache), epochs=epochs, optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9))


def test_stand_alone_training_ranks_good_above_bad_architectures(tmp_path: Path) -> None:
    space, data = ToySpace(), ToyData()
    data.setup("fit")
    bad = space.validate({"layer_1": "blur", "layer_2": "keep"})
    torch.manual_seed(0)
    before = torch.get_rng_state()
    scores = truth(tmp_path)(space, [space.best, bad], data, Classification(), 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert scores[0] > 0.9
    assert scores[1] < 0.5  # a constant image cannot tell four classes apart


def test_each_architecture_is_trained_once_and_again_under_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, data, trained = ToySpace(), ToyData(), []
    data.setup("fit")
    original = StandAlone.fit
    monkeypatch.setattr(StandAlone, "fit", lambda self, *a: trained.append(a[1]) or original(self, *a))
    first = truth(tmp_path, epochs=1)(space, [space.best], data, Classification(), 0)
    assert truth(tmp_path, epochs=1)(space, [space.best], data, Classification(), 0) == first
    assert len(trained) == 1
    truth(tmp_path, epochs=1, lr=0.2)(space, [space.best], data, Classification(), 0)
    truth(tmp_path, epochs=1)(space, [space.best], data, Classification(), 1)
    truth(tmp_path, epochs=1)(space, [space.best], data, Classification(0.1), 0)
    assert len(trained) == 4
    for file in tmp_path.rglob("*.json"):
        file.write_text("{ damaged")
    assert truth(tmp_path, epochs=1)(space, [space.best], data, Classification(), 0) == first
    assert len(trained) == 5


def test_a_network_that_diverges_alone_counts_as_the_worst(tmp_path: Path) -> None:
    space, data = ToySpace(), ToyData()
    data.setup("fit")
    others = space.different(3, torch.Generator().manual_seed(0))
    wild = StandAlone(cache_dir=str(tmp_path), epochs=1, optimizer=partial(torch.optim.SGD, lr=1e30))
    with pytest.warns(UserWarning, match="diverged when it was trained alone"):
        scores = wild(space, others, data, Classification(), 0)
    assert scores[0] == -math.inf
    assert math.isfinite(scores[1])  # it sees constant images, and its gradients are 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a training that diverges once more
        assert wild(space, others, data, Classification(), 0) == scores
    ranked = diverged_last(torch.tensor([0.5, -math.inf, 0.1], dtype=torch.float64))
    assert kendall_tau(ranked, torch.tensor([0.9, 0.2, 0.3])).item() == kendalltau([3, 1, 2], [0.9, 0.2, 0.3]).statistic
