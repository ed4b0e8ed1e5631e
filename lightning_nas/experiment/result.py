"""What a run tells: ``result.json``, ``layers.csv``, ``report.html`` and a short table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import DataError
from lightning_nas.experiment.loggers import make_loggers
from lightning_nas.files import write_json
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.measure import device_description, measure
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.report.choices import Choices
from lightning_nas.report.page import write_report
from lightning_nas.report.terminal import summary
from lightning_nas.spaces.base import WeightSharingSpace, look_up
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.truth.nasbench201 import tabulated

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

KEYS = (
    *("strategy", "search_space", "dataset", "seed", "architecture", "test_acc", "params", "macs"),
    *("latency_predicted_ms", "latency_measured_ms", "kendall_tau", "search_seconds", "retrain_seconds"),
    *("test_samples", "latency_device", "kendall_tau_macs"),
)


def write_result(run: Run, architecture: Architecture, network: nn.Module, table: LatencyTable | None) -> None:
    """Measure the network, write the run's files, print the table."""
    run.figures |= {
        "params": count_params(network),
        "macs": count_macs(network, run.space.input_shape, run.space.input_dtype),
    }
    searched = architecture.space == run.space.name
    # else the table is of another classifier, or of the smaller network that was searched
    as_searched = searched and run.data.num_classes == run.space.num_classes and run.space.evaluation() is run.space
    if table is not None and table.unit == "ms" and as_searched:
        run.figures["latency_predicted_ms"] = run.space.cost(architecture, table)
    conditions = table.conditions if table is not None and table.conditions else Conditions()
    timing = measure(network, run.space.input_shape, conditions=conditions, dtype=run.space.input_dtype)
    run.figures["latency_measured_ms"] = timing.median_ms
    run.figures["latency_device"] = _device(conditions)
    _write_layers(run, architecture, table if searched else None)
    result = collected(run)
    write_json(run.folder / "result.json", result)
    log_result(run, result)
    space = run.home(architecture)
    others = [
        (f"The next best, number {place}", run.home(other).graph(other), run.home(other).cell_graphs(other))
        for place, other in enumerate(run.next_best, start=2)
    ]
    choices = Choices.of(run.space, architecture) if searched else None
    write_report(run.folder, space.graph(architecture), space.cell_graphs(architecture), others, choices)
    _print(run, result, architecture)


def collected(run: Run) -> dict[str, Any]:
    """The figures so far by the names of ``result.json``; None for what was not taken."""
    score, answer = f"test_{run.task.score_name}", run.found
    known = {
        "strategy": run.names.strategy if "search" in run.stages else None,
        "search_space": run.space.name,
        "dataset": run.names.dataset,
        "seed": run.seed,
        "architecture": None if answer is None else answer.to_dict(),
        **run.figures,
    }
    return {key: known.get(key) for key in (score if key == "test_acc" else key for key in KEYS)}


def _device(conditions: Conditions) -> str:
    """The device of a measurement and how much of it was used."""
    threads = f", {conditions.threads} thread{'s' * (conditions.threads > 1)}" if conditions.device == "cpu" else ""
    return f"{device_description(conditions.device)}{threads}"


def log_result(run: Run, result: dict[str, Any]) -> None:
    """Log the figures of a result as ``result/...``."""
    figures = {name: value for name, value in result.items() if isinstance(value, (int, float))}
    for logger in make_loggers(run.loggers, run.names, run.record, "result"):
        logger.log_metrics(figures)


def _write_layers(run: Run, architecture: Architecture, table: LatencyTable | None) -> None:
    layers = CSVTable(run.folder / "layers.csv", ("decision", "option", "cost"))
    layers.cut(0)
    if table is None:
        return
    if not isinstance(run.space, WeightSharingSpace):
        for key in run.space.cost_keys(architecture):
            layers.append({"decision": "", "option": key, "cost": look_up(table, key)})
        return
    fixed, groups = run.space.gate_keys()
    for key in fixed:
        layers.append({"decision": "fixed", "option": key.split()[0], "cost": look_up(table, key)})
    gates = run.space.gates(architecture)
    for joint in run.space.joint_keys():
        if joint.runs(gates):
            for key in joint.keys:
                layers.append({"decision": "joint", "option": key.split()[0], "cost": look_up(table, key)})
    for group, active in gates.active.items():
        for number, (row, chosen) in enumerate(zip(groups[group], active, strict=True), start=1):
            cost = sum(look_up(table, key) for i in chosen for key in row[i])
            option = " ".join(run.space.gate_options[group][i] for i in chosen)
            layers.append({"decision": f"{group} {number}", "option": option, "cost": cost})


def _print(run: Run, result: dict[str, Any], architecture: Architecture) -> None:
    extra = {**_tabulated(run, architecture), "report": str(run.folder / "report.html")}
    Console().print(summary(result, str(architecture), extra))


def _tabulated(run: Run, architecture: Architecture) -> dict[str, str]:
    """What NAS-Bench-201's authors got from this cell: a row of the table, if their figures are at hand."""
    try:
        known = tabulated(run.space, architecture, run.published)
    except DataError as reason:  # the run has its answer: a damaged table must not spoil it
        return {"NAS-Bench-201": str(reason)}
    said = "\n".join(f"{accuracy:.2%} {name}" for name, accuracy in known.items())
    return {"NAS-Bench-201": f"{said}\n(test accuracy, 200 epochs)"} if known else {}
