"""A run with a target: what it measures, answers and says."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import lightning_nas as ln
from lightning_nas.errors import ConfigError, EnvironmentFailure
from lightning_nas.experiment import result, search, targets
from lightning_nas.latency.command import described
from lightning_nas.latency.measure import Timing
from lightning_nas.latency.measurement import Measurement
from lightning_nas.latency.sources import File
from lightning_nas.latency.table import Conditions, Entry, LatencyTable
from lightning_nas.latency.torch_device import device_description
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToyData, ToySpace

PRICES = {"stem": 0.31, "head": 0.22, "blur": 0.113, "swap": 0.294, "keep": 0.571}
QUIET: dict[str, Any] = {"callbacks": "none", "logger": "none", "stages": ["search"]}
LAYERS, TARGET = 5, 2.25
SPACE = ToySpace(LAYERS)
TABLE = LatencyTable.macs(SPACE).model_copy(
    update={
        "unit": "ms",
        "device": device_description("cpu"),
        "conditions": Conditions(min_run_time=1e-4),
        "entries": {key: Entry(median=price, iqr=0.0) for key, price in PRICES.items()},
    }
)


def slower(factor: float) -> Any:
    """A stop watch by which networks take ``factor`` times what the table says."""
    kinds = {"Blur": "blur", "Swap": "swap"}

    def measure(network: nn.Module, *_: object, **__: object) -> Timing:
        layers: Any = network.layers
        names = ["stem", "head", *(kinds.get(type(layer).__name__, "keep") for layer in layers)]
        return Timing(factor * sum(PRICES[name] for name in names), 0.001)

    return measure


def run(folder: Path, **more: Any) -> ln.Run:
    short = {"max_epochs": 1, "limit_train_batches": 4}
    fbnet = partial(ln.FBNet, arch_warmup_epochs=0, candidates=2)
    given = {"strategy": fbnet, "trainer": short, "target": TARGET, "latency_table": TABLE} | QUIET
    return ln.Run(folder, data=ToyData(128, val_fraction=0.25, batch_size=16), space=SPACE, **given | more)


def measured(monkeypatch: pytest.MonkeyPatch, made: ln.Run, factor: float) -> dict[str, Any]:
    for module in (targets, result):
        monkeypatch.setattr(module, "measure", slower(factor))
    made.search()
    made.report()
    content: dict[str, Any] = json.loads((made.folder / "result.json").read_text())
    return content


def test_the_measured_network_keeps_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = measured(monkeypatch, run(tmp_path, target_params=1e6), 1.25)
    [latency, params] = content["targets"]
    assert latency["asked"] == TARGET
    assert latency["measured"] == pytest.approx(1.25 * latency["cost"])
    assert latency["cost"] <= latency["bound"] < TARGET
    assert latency["measured"] <= TARGET
    assert params["unit"] == "params"
    assert params["cost"] <= 1e6
    assert "within target=2.25 ms and target_params=1e+06 params" in content["answer_rule"]
    assert "2.250 ms: kept" in (tmp_path / "report.html").read_text()


def test_a_target_out_of_reach_of_the_network_is_said_to_be_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = measured(monkeypatch, run(tmp_path), 3.0)
    [entry] = content["targets"]
    assert entry["cost"] == pytest.approx(entry["cheapest"]) == pytest.approx(1.095)
    assert "2.250 ms: missed by 46.0%, 3.285 measured" in (tmp_path / "report.html").read_text()


def test_an_early_stop_keeps_its_healthy_answer_below_the_corrected_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("keep", "keep", "swap", "blur", "blur")  # 2.192 ms by the table
    healthy = SPACE.validate({f"layer_{i + 1}": option for i, option in enumerate(kept)})
    monkeypatch.setattr(search, "stopped", lambda _: healthy)
    monkeypatch.setattr(ln.FBNet, "answer", lambda _: pytest.fail("the unhealthy end of the search was asked"))
    [entry] = measured(monkeypatch, run(tmp_path), 1.25)["targets"]
    assert entry["measured"] <= TARGET
    found = json.loads((tmp_path / "architecture.json").read_text())["choices"].values()
    assert sum(one == other for one, other in zip(found, kept, strict=True)) >= 3


def test_trials_answer_below_the_corrected_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evolution = ln.RegularizedEvolution(
        SPACE, table=TABLE, target=TARGET, engine=ToyEngine(), trials=8, population=3, sample=2
    )
    made = run(tmp_path, strategy=evolution, target=None, latency_table="none", trainer={"max_epochs": 1})
    [entry] = measured(monkeypatch, made, 1.1)["targets"]
    assert 0.9 * TARGET < entry["measured"] <= TARGET


def test_a_target_is_refused_where_nothing_takes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="target bounds what a search answers"):
        run(tmp_path, stages=["retrain"])
    with pytest.raises(ConfigError, match="the strategy is made already"):
        run(tmp_path, strategy=ln.DARTS(SPACE))


# -- a table of another device ----------------------------------------------------------------------------------------

COMMAND = "ssh phone ./bench {model}"


def phone(folder: Path) -> str:
    """The file of a table that a command measured."""
    file = folder / "phone.json"
    update = {"device": described(COMMAND), "conditions": Conditions(device="command")}
    TABLE.model_copy(update=update).save(file)
    return str(file)


def test_the_answer_is_measured_by_the_command_of_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, stop_watch = [], slower(1.25)

    def measure(network: nn.Module, *_: object, conditions: Conditions, **__: object) -> Timing:
        seen.append(conditions)
        timing: Timing = stop_watch(network)
        return timing

    for module in (targets, result):
        monkeypatch.setattr(module, "measure", measure)
    made = run(tmp_path / "run", latency_table=File(phone(tmp_path), command=COMMAND, timeout=9.0))
    made.search()
    made.report()
    assert seen == [Measurement(device="command", command=COMMAND, timeout=9.0)] * 2
    [entry] = json.loads((tmp_path / "run" / "result.json").read_text())["targets"]
    assert entry["device"] == described(COMMAND)
    assert entry["measured"] == pytest.approx(1.25 * entry["cost"])
    assert entry["measured"] <= TARGET
    told = (tmp_path / "run" / "report.html").read_text()
    assert "2.250 ms: kept" in told
    assert described(COMMAND) in told


def test_no_command_in_a_file_of_a_table_is_run(tmp_path: Path) -> None:
    made = run(tmp_path / "run", latency_table=File(phone(tmp_path)))
    made.search()
    made.report()
    content = json.loads((tmp_path / "run" / "result.json").read_text())
    assert content["latency_predicted_device"] == described(COMMAND)
    assert content["latency_device"] == Conditions().on(device_description("cpu"))
    [entry] = content["targets"]
    assert entry["measured"] is None
    assert entry["cost"] <= TARGET == entry["bound"]


def test_a_device_that_went_away_costs_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object, **__: object) -> Timing:
        raise EnvironmentFailure("the command 'ssh' failed with exit code 255: 'no route to host'")

    for module in (targets, result):
        monkeypatch.setattr(module, "measure", measure)
    made = run(tmp_path / "run", latency_table=File(phone(tmp_path), command=COMMAND))
    made.search()
    made.report()
    content = json.loads((tmp_path / "run" / "result.json").read_text())
    assert content["latency_measured_ms"] is None
    assert content["targets"][0]["cost"] <= TARGET
    assert [warning for warning in content["warnings"] if "no route to host" in warning]
    assert "2.250 ms: kept" in (tmp_path / "run" / "report.html").read_text()
