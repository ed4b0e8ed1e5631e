"""``report.html``: one file that tells the whole story of a run and needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from lightning_nas.files import atomic
from lightning_nas.report import charts, sections
from lightning_nas.report.choices import Choices
from lightning_nas.report.evolution import evolution
from lightning_nas.report.multi_trial import trials
from lightning_nas.report.pareto import score_and_cost
from lightning_nas.report.parts import Section, render
from lightning_nas.report.record import read_object
from lightning_nas.report.steps import next_steps


def write_report(
    folder: Path,
    graph: nx.DiGraph[Any] | None,
    cells: Mapping[str, nx.MultiDiGraph[Any]] | None = None,
    others: Sequence[sections.Drawn] = (),
    choices: Choices | None = None,
) -> Path:
    """Write ``report.html`` from the other files of a run's folder; equal files give an equal page.

    The page needs no network, runs no script and loads nothing; all text from the files is escaped. Sections without
    content are left out and named in the last line.

    Args:
        folder: the run's folder; any of its files may be absent.
        graph: the derived network, nodes with a ``label``; None if there is none.
        cells: the kinds of cell it is made of, by name.
        others: the next best networks: title, network and cells of each.
        choices: the names of the search's choices and the options of the answer
            (:meth:`Choices.of <lightning_nas.report.choices.Choices.of>`); numbers stand for them without.

    Returns:
        The path of the page.

    Raises:
        InputError: a file is there but damaged.
        EnvironmentFailure: the page cannot be written.
    """
    result, named = read_object(folder / "result.json"), choices or Choices()
    shared = [charts.probabilities(folder, named), charts.health(folder, named), charts.rank(folder)]
    by_trials = trials(folder)
    parts: list[Section | None] = [
        sections.result(folder, result),
        sections.classes(result),
        sections.predictions(folder),
        sections.outputs(result),
        charts.hypothesis(folder),
        sections.network(graph, cells or {}),
        sections.names(folder),
        score_and_cost(folder),
        sections.best_architectures(folder),
        *(sections.network(graph, cells, f"another-{i}", title) for i, (title, graph, cells) in enumerate(others, 2)),
        next_steps(folder, result),
        charts.search_curves(folder),
        *(section for section in shared if section.parts or by_trials is None),  # trials share no weights
        by_trials,
        evolution(folder),
        charts.layers(folder, named),
        charts.retrain_curves(folder),
        sections.configuration(folder),
    ]
    path = folder / "report.html"
    with atomic(path) as file:
        file.write(render(_title(result), _summary(result), parts))
    return path


def _title(result: Mapping[str, Any]) -> str:
    strategy, dataset = result.get("strategy"), result.get("dataset")
    return f"{strategy} on {dataset}" if strategy and dataset else "Architecture search"


def _summary(result: Mapping[str, Any]) -> str:
    """One line: the search space, the seed and the figures that were measured."""
    forms = {
        "search_space": "search space {}",
        "seed": "seed {}",
        "test_acc": "{:.2%} test accuracy",
        "test_ppl": "test perplexity {:.2f}",
        "test_r2": "test R2 {:.4f}",
        "test_map": "test mean average precision {:.4f}",
        "test_miou": "test mIoU {:.4f}",
        "params": "{:,} parameters",
        "latency_measured_ms": "{:.3g} ms measured",
    }
    device, said = result.get("latency_device"), []
    for key, form in forms.items():
        try:
            words = "" if result.get(key) is None else form.format(result[key])
        except (ValueError, TypeError):  # text where a number belongs is shown in the table
            continue
        if words:
            if key == "test_acc" and result.get("accuracy_source"):
                words += f" ({result['accuracy_source']})"
            if key == "latency_measured_ms":
                words += ", not steady" if result.get("latency_steady") is False else ""
                words += f" on {device}" if device else ""
            said.append(words)
    return " · ".join(said) or "This run has not ended yet; below is what it has recorded."
