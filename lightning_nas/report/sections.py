"""The parts of the report that are words, tables and the network; what was not recorded is said in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import networkx as nx

from lightning_nas.architecture import Architecture
from lightning_nas.report import markup
from lightning_nas.report.cell_drawing import cell_drawing, cell_words
from lightning_nas.report.drawing import network_drawing
from lightning_nas.report.record import Row, number, read_rows
from lightning_nas.report.svg import to_svg

Drawn = tuple[str, "nx.DiGraph[Any]", Mapping[str, "nx.MultiDiGraph[Any]"]]
"""A title, a network, its cells."""


def result(folder: Path, content: Mapping[str, Any]) -> str:
    """The run in figures."""
    if not content:
        return markup.section("Result", markup.missing("No result was written: this run has not come to its end."))
    take = content.get
    measured, predicted = number(take("latency_measured_ms")), number(take("latency_predicted_ms"))
    off = f" ({predicted / measured - 1:+.0%} against measured)" if measured and predicted is not None else ""
    quality = ("Test perplexity", markup.value(take("test_ppl"), "{:.2f}"))
    if "test_ppl" not in content:
        quality = ("Test accuracy", markup.value(take("test_acc"), "{:.2%}"))
    rows = [
        ("Architecture", _architecture(folder, take("architecture"))),
        quality,
        ("Parameters", markup.value(take("params"))),
        ("Multiply-adds", markup.value(take("macs"))),
        ("Latency, predicted", markup.value(take("latency_predicted_ms"), "{:.3f}", " ms") + off),
        ("Latency, measured", markup.value(take("latency_measured_ms"), "{:.3f}", " ms")),
        ("Kendall's tau", _tau(take("kendall_tau"), read_rows(folder / "rank.csv"))),
        ("Search", markup.value(take("search_seconds"), "{:,.1f}", " s")),
        ("Retraining", markup.value(take("retrain_seconds"), "{:,.1f}", " s")),
    ]
    return markup.section("Result", markup.facts(rows))


def _architecture(folder: Path, said: Any) -> str:
    path = folder / "architecture.json"
    if path.is_file():
        architecture = Architecture.load(path)
        return f"{markup.code(str(architecture))}<br>key {markup.code(architecture.key)}"
    return markup.code(str(said)) if said is not None else "not taken"


def _tau(tau: Any, rank: list[Row]) -> str:
    text = markup.value(tau, "{:.3f}")
    low, high = (number(rank[-1].get(end)) if rank else None for end in ("low", "high"))
    return text if number(tau) is None or low is None or high is None else f"{text}, interval {low:.3f} to {high:.3f}"


def network(
    graph: nx.DiGraph[Any] | None,
    cells: Mapping[str, nx.MultiDiGraph[Any]],
    name: str = "network",
    title: str = "Derived network",
) -> str:
    """The drawing of a network, and of each kind of cell it is made of; ``name`` is its own on the page."""
    if graph is None or not len(graph):
        return markup.section(title, markup.missing("There is no derived network to draw."))
    labels = [" ".join(str(data.get("label", node)).split()) for node, data in graph.nodes(data=True)]
    svg = to_svg(network_drawing(graph), name, f"The network, {len(graph)} nodes: {'; '.join(labels)}")
    parts = [markup.figure(svg, "In the order in which it runs, from the input to the classifier.")]
    for i, (kind, cell) in enumerate(cells.items()):
        of = "cell" if name == "network" else f"{name}-cell"
        svg = to_svg(cell_drawing(cell), f"{of}-{i}", f"The {kind}: {cell_words(cell)}")
        parts.append(markup.figure(svg, f"The {kind}: inputs at the left, the output at the right."))
    return markup.section(title, *parts)


def best_architectures(folder: Path, most: int = 10) -> str:
    """The table of the architectures with the highest scores."""
    title, rows = "Best architectures seen", read_rows(folder / "architectures.csv")
    for row in read_rows(folder / "trials.csv"):
        if not row.get("failed"):
            rows.append(row | {"score": row.get("reward", ""), "kind": "trial", "epoch": row.get("trial", "")})
    best: dict[str, tuple[float, Row]] = {}
    for row in rows:
        score, key = number(row.get("score")), row.get("key", "")
        if score is not None and (key not in best or score > best[key][0]):
            best[key] = (score, row)
    if not best:
        words = (
            "The architectures of this run were not scored." if rows else "No architectures were recorded in this run."
        )
        return markup.section(title, markup.missing(words))
    top = sorted(best.values(), key=lambda entry: -entry[0])[:most]
    lines = [
        [
            f"{score:.4f}",
            markup.value(number(row.get("cost")), "{:.3f}") if row.get("cost") else "–",
            escape(row.get("kind", "")),
            escape(row.get("epoch", "")),
            markup.code(row.get("key", "")),
            markup.code(row.get("choices", "")),
        ]
        for score, row in top
    ]
    head = ("Score", "Cost", "Kind", "Epoch or trial", "Key", "Choices")
    words = f"<p>The {len(top)} highest scores of {len(best)} architectures, each once.</p>\n"
    return markup.section(title, words, markup.table(head, lines, frozenset({0, 1, 3})))


def configuration(folder: Path) -> str:
    """The configuration the run was made with, folded away."""
    path = folder / "config.yaml"
    if not path.is_file():
        return markup.section("Configuration", markup.missing("No configuration was recorded in this run."))
    text = escape(path.read_text(encoding="utf-8", errors="replace"))
    return markup.section(
        "Configuration", f"<details><summary>config.yaml, resolved</summary>\n<pre>{text}</pre>\n</details>\n"
    )
