"""A run's latency table, and figures of several devices."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lightning_nas as ln
from lightning_nas.errors import ConfigError
from lightning_nas.latency.macs import count_space
from lightning_nas.latency.table import Conditions, LatencyTable, Steadiness
from lightning_nas.spaces.base import SearchSpace

QUIET = {"rounds": 9, "spread": 0.02, "unstable": 0.0, "drift": 0.01, "waiting": 0.0}
FAST = {"callbacks": "none", "logger": "none", "stages": ["search"], "trainer": {"max_epochs": 4}}


def run_with(folder: Path, change: dict[str, Any]) -> ln.Run:
    """A run whose table says that each multiply-add takes a nanosecond, and each operation one more."""

    def table(space: SearchSpace) -> LatencyTable:
        counted = count_space(space, "MACs").model_dump()
        costs = {key: (entry["median"] + 1) / 1e6 for key, entry in counted["entries"].items()}
        entries = {key: {"median": cost, "iqr": 0.0} for key, cost in costs.items()}
        return LatencyTable.model_validate(counted | {"unit": "ms", "entries": entries} | change)

    run = ln.Run(folder, data="digits", space="fbnet_small", strategy="darts", latency_table="none", **FAST)
    run.table = table
    return run


@pytest.mark.parametrize("waiting", [0.0, 0.4])
def test_a_run_warns_of_a_table_of_a_busy_machine(tmp_path: Path, waiting: float) -> None:
    run = run_with(tmp_path, {"steadiness": Steadiness(**QUIET | {"waiting": waiting})})
    table = run.latency_table()
    assert table is run.latency_table()
    said = ["the latency table is not steady: other programs had 40 % of the time"] if waiting else []
    assert [warning.partition(",")[0] for warning in run.warnings if "latency table" in warning] == said


def test_a_table_without_operations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fbnet_small lists no operations.*latency_table=none"):
        run_with(tmp_path, {"entries": {}}).latency_table()


def test_a_phones_table_is_named_and_compared_with_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured on a GPU that is not here: the network is measured on this CPU."""
    phone = {"device": "a phone", "constant": 5.0, "conditions": Conditions(device="cuda")}
    run = run_with(tmp_path, phone)
    run.found = run.space.sample(torch.Generator().manual_seed(0))
    run.report()
    result = json.loads((tmp_path / "result.json").read_text())
    table = run.latency_table()
    assert table is not None
    costs = [table[key] for key in run.space.cost_keys(run.found)]
    assert result["latency_predicted_ms"] == pytest.approx(5 + sum(costs))
    assert result["latency_predicted_device"] == "a phone"
    assert "1 thread" in result["latency_device"]
    told = capsys.readouterr().out + (tmp_path / "report.html").read_text()
    told = " ".join(told.replace("│", " ").split())  # a long name of this processor breaks the line
    assert "(a phone)" in told
    assert "against measured" not in told
    assert "fixed,constant,5.0" in (tmp_path / "layers.csv").read_text()
