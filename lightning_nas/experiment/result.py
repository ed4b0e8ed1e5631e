"""The result of a run: ``result.json``, ``layers.csv``, ``report.html`` and a short table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import DataError, EnvironmentFailure, InputError
from lightning_nas.experiment.loggers import log_model, make_loggers
from lightning_nas.experiment.targets import as_searched, conditions_here
from lightning_nas.export.trained import FILE as TRAINED
from lightning_nas.files import write_json
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.measure import measure
from lightning_nas.latency.measurement import reached
from lightning_nas.latency.table import Conditions, LatencyTable
from lightning_nas.report.choices import Choices
from lightning_nas.report.page import write_report
from lightning_nas.report.terminal import summary
from lightning_nas.spaces.base import WeightSharingSpace, constant_of, look_up
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.truth.tabulated import known_table

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)

KEYS = (
    *("strategy", "search_space", "dataset", "seed", "architecture", "test_acc", "params", "macs"),
    *("latency_predicted_ms", "latency_measured_ms", "kendall_tau", "search_seconds", "retrain_seconds"),
    *("test_samples", "latency_device", "kendall_tau_macs", "latency_iqr_ms", "latency_steady"),
    *("latency_predicted_device", "latency_table_check", "steps", "warnings", "answer_rule"),
    *("balanced_acc", "majority_share", "baseline_acc", "classes", "confusion", "augmentation"),
    *("accuracy_source", "tabulated_acc", "tabulated_by", "targets", "overrides", "inherited_acc"),
    *("kendall_tau_interval", "kendall_tau_architectures", "kendall_tau_chance", "ranking"),
    *("score_spread", "score_error", "kendall_tau_truth", "rank_proxies"),
    *("retrain_epochs", "retrain_best_epoch", "retrain_lr"),
)

OF_CLASSES = (
    "balanced_acc",
    "majority_share",
    "baseline_acc",
    "classes",
    "confusion",
    "accuracy_source",
    "tabulated_acc",
)
"""Keys that only results of tasks with classes or words have."""


def write_result(run: Run, architecture: Architecture, network: nn.Module, table: LatencyTable | None) -> None:
    """Measure the network, write the run's files, print the table."""
    run.figures |= {
        "params": count_params(network),
        "macs": count_macs(network, run.space.input_shape, run.space.input_dtype),
    }
    searched = architecture.space == run.space.name
    # else the table is of another classifier, or of the smaller network that was searched
    same = as_searched(run, architecture)
    run.figures |= _measured(run, network, table)
    if same:
        _measure_targets(run)
    if table is not None and table.unit == "ms" and same:
        run.figures["latency_predicted_ms"] = run.space.cost(architecture, table)
        run.figures["latency_predicted_device"] = table.described()
    if table is not None and table.verdict:
        run.figures["latency_table_check"] = table.verdict
    run.figures |= _tabulated(run, architecture)
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
    """The figures so far by the names of ``result.json``; None for what was not taken.

    The task's own figures stand in the place of accuracies; those of numbers, labels and masks have no figures of
    images of a class.
    """
    score, answer = f"test_{run.task.score_name}", run.found
    known = {
        "strategy": run.names.strategy if "search" in run.stages else None,
        "search_space": run.space.name,
        "dataset": run.names.dataset,
        "seed": run.seed,
        "architecture": None if answer is None else answer.to_dict(),
        "augmentation": run.data.augmentation or None,
        "overrides": list(run.names.overrides) or None,
        "warnings": list(dict.fromkeys([*run.data.doubts, *run.warnings])),
        **run.figures,
    }
    named = {"test_acc": score, "inherited_acc": f"inherited_{run.task.score_name}"}
    keys = [named.get(key, key) for key in KEYS]
    if run.task.targets == "masks":
        own = [key for key in run.figures if key.startswith(("test_", "majority_")) and key not in keys]
        return {key: known.get(key) for key in (*(key for key in keys if key not in OF_CLASSES), "classes", *own)}
    if run.task.targets in ("numbers", "labels"):
        keys = [key for key in keys if key not in OF_CLASSES] + ["outputs"]
        keys += [key for key in run.figures if key.startswith(("test_", "in_units")) and key not in keys]
    return {key: known.get(key) for key in keys}


def _measured(run: Run, network: nn.Module, table: LatencyTable | None) -> dict[str, Any]:
    """The latency of the network on the device of the table; if that is not here, on this machine's processor."""
    here = None if table is None else conditions_here(run, table)
    conditions = here or _nearest(table)
    try:
        timing = measure(network, run.space.input_shape, conditions=conditions, dtype=run.space.input_dtype)
    except (EnvironmentFailure, InputError) as reason:  # a device that went away must not spoil the answer
        run.warn(f"the network of the answer could not be measured: {reason}")
        return {}
    if not timing.steady:
        log.warning(
            "the latency of the answer was measured while the machine was busy: %.3f ms, IQR %.3f",
            *(timing.median_ms, timing.iqr_ms),
        )
    return {
        "latency_measured_ms": timing.median_ms,
        "latency_iqr_ms": timing.iqr_ms,
        "latency_steady": timing.steady,
        "latency_device": conditions.on(reached(conditions) or conditions.device),
    }


def _nearest(table: LatencyTable | None) -> Conditions:
    """The conditions of a table of another machine, as far as this one has them."""
    conditions = table.conditions if table is not None else None
    return Conditions() if conditions is None or reached(conditions) is None else conditions


def _measure_targets(run: Run) -> None:
    """Note the measured latency beside the targets in milliseconds of the same device and conditions."""
    figures = run.figures
    for entry in figures.get("targets") or ():
        if entry["unit"] == "ms" and entry["device"] == figures.get("latency_device"):
            entry["measured"] = figures["latency_measured_ms"]


def log_result(run: Run, result: dict[str, Any]) -> None:
    """Log the figures of a result as ``result/...``, and the trained network where there is one."""
    trained = run.folder / TRAINED
    figures = {name: value for name, value in result.items() if type(value) in (int, float)}
    for logger in make_loggers(run.loggers, run.names, run.record, "result"):
        logger.log_metrics(figures)
        if trained.is_file():
            log_model(logger, trained, figures)


def _write_layers(run: Run, architecture: Architecture, table: LatencyTable | None) -> None:
    rows = [] if table is None else list(_layers(run, architecture, table))
    CSVTable(run.folder / "layers.csv", ("decision", "option", "cost")).write(rows)


def _layers(run: Run, architecture: Architecture, table: LatencyTable) -> Iterator[dict[str, Any]]:
    if constant := constant_of(table):
        yield {"decision": "fixed", "option": "constant", "cost": constant}
    if not isinstance(run.space, WeightSharingSpace):
        for key in run.space.cost_keys(architecture):
            yield {"decision": "", "option": key, "cost": look_up(table, key)}
        return
    fixed, groups = run.space.gate_keys()
    for key in fixed:
        yield {"decision": "fixed", "option": key.split()[0], "cost": look_up(table, key)}
    gates = run.space.gates(architecture)
    for joint in run.space.joint_keys():
        if joint.runs(gates):
            for key in joint.keys:
                yield {"decision": "joint", "option": key.split()[0], "cost": look_up(table, key)}
    for group, active in gates.active.items():
        for number, (row, chosen) in enumerate(zip(groups[group], active, strict=True), start=1):
            cost = sum(look_up(table, key) for i in chosen for key in row[i])
            option = " ".join(run.space.gate_options[group][i] for i in chosen)
            yield {"decision": f"{group} {number}", "option": option, "cost": cost}


def _print(run: Run, result: dict[str, Any], architecture: Architecture) -> None:
    console = Console(markup=False, emoji=False)
    console.print(summary(result, str(architecture), {"report": str(run.folder / "report.html")}))


def _tabulated(run: Run, architecture: Architecture) -> dict[str, Any]:
    """What the table of the space has of this architecture, if there is one and it is at hand.

    It is the result of a search that only looks up; beside the result of any other run it stands for comparison.
    """
    if run.task.targets in ("numbers", "labels", "masks"):
        return {}
    try:
        table = known_table(run.space, run.published)
        known = {} if table is None else table.tested_of(architecture)
    except DataError as reason:  # the run has its answer: a damaged table must not spoil it
        run.warn(f"the answer cannot be looked up: {reason}")
        return {}
    if table is None:
        return {}
    figures: dict[str, Any] = {"tabulated_acc": known, "tabulated_by": table.described()}
    dataset = run.names.dataset
    if run.trains_nothing and "retrain" not in run.stages and dataset in table.datasets:
        figures[f"test_{run.task.score_name}"] = known[table.datasets[dataset]]
        figures["accuracy_source"] = f"{table.source(dataset)}, not trained here"
    return figures
