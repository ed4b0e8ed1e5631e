from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import one_thread
from lightning_nas.truth.curves import LearningCurves
from lightning_nas.truth.stand_alone import StandAlone

OPTIONS = {"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "epochs": 2}


def test_a_curve_ends_with_the_truth_of_a_rank_check_and_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, data, task, trained = ToySpace(), ToyData(304), Classification(), []
    data.setup("fit")
    original = LearningCurves.fit
    monkeypatch.setattr(LearningCurves, "fit", lambda self, *a: trained.append(a[1]) or original(self, *a))
    drawn = space.different(2, torch.Generator().manual_seed(0))
    made = LearningCurves(networks=2, cache_dir=str(tmp_path), **OPTIONS)
    with one_thread():
        first = made(space, drawn[:1], data, task, 0)
        curves = made(space, drawn, data, task, 0)  # goes on where it stopped
        truth = StandAlone(cache_dir=str(tmp_path), **OPTIONS)(space, drawn, data, task, 0)
        assert trained == drawn
        assert curves[:1] == first
        assert [curve[-1] for curve in curves] == truth
        assert {len(curve) for curve in curves} == {2}
        for file in (tmp_path / "curves").rglob("*.json"):
            file.write_text('{"scores": [1.0]}')
        assert made(space, drawn, data, task, 0) == curves
    assert len(trained) == 4
