"""How many trials of a search are proposed before any result has had a say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_nas.architecture import Architecture
from lightning_nas.strategies.multi_trial.bananas import Bananas
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.block_qnn import BlockQNN
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.strategies.multi_trial.nas_rl import NASRL
from lightning_nas.strategies.multi_trial.nasnet import NASNet
from lightning_nas.strategies.multi_trial.optuna_search import OptunaSearch
from lightning_nas.strategies.multi_trial.pnas import PNAS
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.testing.multi_trial import LAYERS, ToyEngine, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit

TRIALS = 24


def proposed(made: type[TrialSearch], worth: Callable[[Architecture], float], folder: Path, **options: Any) -> Any:
    search = made(ToySpace(LAYERS), engine=ToyEngine(worth=worth), trials=TRIALS, in_flight=1, seed=3, **options)
    fit(search, None, folder, epochs=1)
    return search.blind, [trial.architecture for trial, _ in search.history]


@pytest.mark.parametrize(
    ("made", "options", "blind"),
    [
        (Bananas, {"initial": 6, "batch": 3, "ensemble": 2, "steps": 20}, 6),
        (BlockQNN, {"batch": 4}, 4),
        (LocalSearch, {}, 1),
        (NASNet, {"children": 4}, 4),
        (NASRL, {"children": 4, "replicas": 1}, 4),
        (OptunaSearch, {}, 10),
        (OptunaSearch, {"sampler_options": {"n_startup_trials": 5}}, 5),
        (OptunaSearch, {"sampler": "nsga2", "sampler_options": {"population_size": 8}}, 8),
        (OptunaSearch, {"sampler": "random"}, 0),
        (PNAS, {"beam": 5, "first": 4, "steps": 5}, 4),
        (PNAS, {"beam": 5, "first": None, "steps": 5}, 5),
        (RandomSearch, {}, 0),
        (RegularizedEvolution, {"population": 7, "sample": 3}, 7),
    ],
)
def test_results_have_a_say_after_the_first_trials_alone(
    made: type[TrialSearch], options: dict[str, Any], blind: int, tmp_path: Path
) -> None:
    """Two searches with opposite rewards propose the same at first, and something else later."""
    if made is OptunaSearch:
        pytest.importorskip("optuna")
    said, for_good = proposed(made, toy_worth, tmp_path / "good", **options)
    _, for_bad = proposed(made, lambda architecture: 1 - toy_worth(architecture), tmp_path / "bad", **options)
    assert said == blind
    assert for_good[:blind] == for_bad[:blind]
    assert (for_good != for_bad) == (blind > 0)
