"""Searches by trials: what they share."""

from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from lightning_nas.errors import CheckpointError, ConfigError, EnvironmentFailure
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, ToyEngine
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.trials.requests import Response


def search(folder: Path, engine: ToyEngine | None = None, **options: Any) -> RandomSearch:
    how: dict[str, Any] = {"trials": 20, "in_flight": 1} | options
    module = RandomSearch(ToySpace(LAYERS), Classification(), engine=engine or ToyEngine(), **how)
    fit(module, None, folder, epochs=1, every=1000)
    return module


def test_what_was_trained_under_other_conditions_is_not_taken_up(tmp_path: Path) -> None:
    with one_thread():
        search(tmp_path)
        torch.set_num_threads(2)
        with pytest.raises(CheckpointError, match=r"trials\.jsonl .*threads was 1, is 2"):
            search(tmp_path)


def test_nothing_is_proposed_once_the_seconds_are_spent(tmp_path: Path) -> None:
    module = search(tmp_path, seconds=7.5, reuse=False)  # a second each
    assert (len(module.history), module.clock) == (8, 8.0)


def test_median_stop_sets_bars_at_the_median_of_earlier_trials(tmp_path: Path) -> None:
    engine = ToyEngine(noise=0.3)
    module = search(tmp_path, engine, median_stop=True, reuse=False)
    curves = [trial.curve for trial, _ in module.history]
    for number, request in enumerate(engine.asked):
        before = [[max(curve[: epoch + 1]) for curve in curves[:number]] for epoch in range(2)]
        expected = tuple(map(median, before)) if number >= 5 else ()
        assert request.bars == pytest.approx(expected)


def test_without_it_nothing_is_asked_for(tmp_path: Path) -> None:
    engine = ToyEngine()
    search(tmp_path, engine)
    assert {request.bars for request in engine.asked} == {()}


def test_an_engine_that_trains_nothing_has_nothing_to_stop() -> None:
    class Instant(ToyEngine):
        instant = True

    with pytest.raises(ConfigError, match="median_stop"):
        RandomSearch(ToySpace(LAYERS), Classification(), engine=Instant(), median_stop=True)


def test_where_children_cannot_be_trained_at_all_it_ends_after_ten(tmp_path: Path) -> None:
    class Lossy(ToyEngine):
        def finished(self, timeout: float) -> list[Response]:
            ended = super().finished(timeout)
            return [Response(each.trial, each.attempt, "lost", reason="no such data here") for each in ended]

    engine = Lossy()
    with pytest.raises(EnvironmentFailure, match=r"none of 10 children .* lost 3 times, at last: no such data here"):
        search(tmp_path, engine, reuse=False)
    assert len(engine.asked) == 3 * 10


def test_several_trials_a_step_are_the_same_search(tmp_path: Path) -> None:
    found = [search(tmp_path / str(n), trials_per_step=n, seed=3) for n in (1, 6)]
    assert found[0].history == found[1].history
    assert found[0].position > found[1].position
