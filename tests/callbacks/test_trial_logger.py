"""The table that a search by trials writes."""

import csv
from pathlib import Path

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.trial_logger import COLUMNS, TrialLogger
from lightning_nas.latency.sources import Macs
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import LAYERS, ToyEngine, toy_worth
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fit


def test_each_trial_is_a_row_with_what_it_was_proposed_with(tmp_path: Path) -> None:
    def fails(architecture: Architecture) -> str | None:
        return "no good, \nat all" if "swap" in architecture.options else None

    space = ToySpace(LAYERS)
    table = Macs()(space)
    module = RegularizedEvolution(
        space, Classification(), table, engine=ToyEngine(fails=fails), trials=40, population=5, sample=2
    )
    fit(module, None, tmp_path, epochs=1, callbacks=[TrialLogger()])
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*COLUMNS, "parent"]
    assert [int(row["trial"]) for row in rows] == list(range(40))
    for row, (trial, reward) in zip(rows, module.history, strict=True):
        assert (row["key"], row["choices"]) == (trial.architecture.key, str(trial.architecture))
        assert float(row["cost"]) == space.cost(trial.architecture, table)
        assert float(row["reward"]) == reward
        if "swap" in trial.architecture.options:
            assert (row["figure"], row["failed"], row["epochs"]) == ("", "no good, \nat all", "0")
        else:
            assert float(row["figure"]) == toy_worth(trial.architecture)
    assert rows[0]["parent"] == ""
    assert rows[-1]["parent"] != ""
