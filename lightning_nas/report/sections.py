"""The sections of the page that are words, tables and the drawings of networks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
from PIL import Image

from lightning_nas.report.candidates import Candidate, cost_axis, read_answer, read_candidates
from lightning_nas.report.cell_drawing import cell_drawing, cell_words
from lightning_nas.report.drawing import network_drawing
from lightning_nas.report.parts import (
    Block,
    Cell,
    Code,
    Figure,
    Folded,
    Mark,
    Part,
    Section,
    Table,
    Words,
    known,
    value,
)
from lightning_nas.report.quantities import (
    NAMES,
    accuracy,
    against_measured,
    comparison,
    doubts,
    inherited,
    provenance,
    ranking,
    retraining,
    scores,
    spread,
    steps,
    tabulated,
    targets,
)
from lightning_nas.report.record import number, read_object, read_rows
from lightning_nas.report.svg import to_svg
from lightning_nas.report.words import glossary

Drawn = tuple[str, "nx.DiGraph[Any]", Mapping[str, "nx.MultiDiGraph[Any]"]]
"""A title, a network, its cells."""

_OF_A_CLASS = {"images": "{:,.0f}", "recall": "{:.1%}", "precision": "{:.1%}"}
_OF_A_MASK = {"pixels": "{:,.0f}", "iou": "{:.4f}"}
_MOST_NAMES = 30  # code names that are explained
_KINDS = {
    "sampled": "drawn by the search",
    "derived": "the answer at that epoch",
    "candidate": "the answer was chosen from these",
    "evolved": "proposed by the evolution after the search",
    "trial": "trained on its own",
}


def result(folder: Path, content: Mapping[str, Any]) -> Section:
    """The figures of the run; those that were not measured are left out."""
    if not content:
        return Section("Result")
    take = content.get
    off = against_measured(content)
    table = read_object(folder / "latency_table.json")
    there = take("latency_predicted_device") or (provenance(table) if table.get("unit") == "ms" else "")
    predicted, measured = (value(take(f"latency_{kind}_ms"), "{:.3f}", " ms") for kind in ("predicted", "measured"))
    rows = [
        ("Architecture", _architecture(folder, take("architecture"))),
        ("Chosen as", value(take("answer_rule"))),
        ("Test accuracy", accuracy(content)),
        *((f"T{name[1:]}", text) for name, text in scores(content).items()),
        ("Before the retraining", inherited(content)),
        ("Balanced accuracy", value(take("balanced_acc"), "{:.2%}")),
        ("To compare", comparison(content)),
        ("Augmentation", value(take("augmentation"))),
        ("From a table", tabulated(content)),
        ("Test perplexity", value(take("test_ppl"), "{:.2f}")),
        ("Parameters", value(take("params"))),
        ("Multiply-adds", value(take("macs"))),
        ("Latency, predicted", _with(predicted, f" ({off} against measured)" if off else "", there)),
        ("Latency, measured", _with(measured, spread(content), take("latency_device"))),
        ("Target", "; ".join(targets(content)) or None),
        ("Latency table", value(take("latency_table_check"))),
        ("Kendall's tau", ranking(content)),
        ("Steps", steps(content)),
        ("Search", value(take("search_seconds"), "{:,.1f}", " s")),
        ("Retraining", retraining(content)),
    ]
    said = [Words(f"Warning: {doubt}.") for doubt in doubts(content)]
    return Section("Result", [*said, known(rows)])


def _with(text: str | None, more: str, device: object) -> str | None:
    return text and text + more + (f" on {device}" if device else "")


def _architecture(folder: Path, said: Any) -> Cell | None:
    if (answer := read_answer(folder)) is not None:
        return [Code(str(answer)), Mark("answer"), "key", Code(answer.key)]
    return None if said is None else Code(str(said))


def classes(content: Mapping[str, Any]) -> Section | None:
    """Recall and precision of each class on the test part and the confusion matrix; None where nothing was tested.

    Of masks the intersection over union of each class.
    """
    entries = [entry for entry in _listed(content.get("classes")) if isinstance(entry, Mapping)]
    if not entries:
        return None
    names = [str(entry.get("name")) for entry in entries]
    if "iou" in entries[0]:
        return _of_pixels(names, entries)
    rows: list[list[Cell]] = [
        [name, *(value(number(entry.get(key)), form) or "–" for key, form in _OF_A_CLASS.items())]
        for name, entry in zip(names, entries, strict=True)
    ]
    parts: list[Part] = [
        Words(
            "Recall: the share of a class's images that the network recognises. "
            "Precision: the share of its answers that are right."
        ),
        Table(("Class", "Test images", "Recall", "Precision"), rows, frozenset({1, 2, 3})),
    ]
    matrix = [[str(count) for count in _listed(row)] for row in _listed(content.get("confusion"))]
    if matrix and all(len(row) == len(names) == len(matrix) for row in matrix):
        counts: list[list[Cell]] = [[name, *row] for name, row in zip(names, matrix, strict=True)]
        head = ("True class", *names)
        parts += [Words("Confusion matrix: each row has the answers for the test images of one class.")]
        parts += [Table(head, counts, frozenset(range(1, len(head))))]
    return Section("Classes", parts)


def _of_pixels(names: list[str], entries: list[Mapping[str, Any]]) -> Section:
    rows: list[list[Cell]] = [
        [name, *(value(number(entry.get(key)), form) or "–" for key, form in _OF_A_MASK.items())]
        for name, entry in zip(names, entries, strict=True)
    ]
    said = (
        "IoU, intersection over union: of the test pixels that the network or the mask gives to a class, the share "
        "that both do."
    )
    return Section("Classes", [Words(said), Table(("Class", "Test pixels", "IoU"), rows, frozenset({1, 2}))])


def predictions(folder: Path) -> Section | None:
    """Test images, their masks and the answers of the network, where a run has a picture of them."""
    file = folder / "predictions.png"
    if not file.is_file():
        return None
    with Image.open(file) as picture:
        width, height = picture.size
    content = base64.b64encode(file.read_bytes()).decode()
    said = "Test images, below them their masks, and below these what the network says"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{said}"><image href="data:image/png;base64,{content}" width="{width}" '
        f'height="{height}"/></svg>'
    )
    caption = f"{said}. Each class has a colour; dark grey is the most frequent one, white has no class."
    return Section("Predictions", [Figure(svg, caption)])


def outputs(content: Mapping[str, Any]) -> Section | None:
    """The test figures of each number or label; None for tasks of classes and words."""
    entries = [entry for entry in _listed(content.get("outputs")) if isinstance(entry, Mapping)]
    if not entries:
        return None
    keys = [key for key in entries[0] if key != "name"]
    forms = {"positives": ("samples that have it", ",.0f"), **NAMES}
    head = [forms.get(key, (key, ""))[0] for key in keys]
    rows: list[list[Cell]] = [
        [
            str(entry.get("name")),
            *(value(number(entry.get(key)), f"{{:{forms.get(key, ('', '.4g'))[1]}}}") or "–" for key in keys),
        ]
        for entry in entries
    ]
    parts: list[Part] = [Words("The figures of the test part for each output of the network.")]
    named = ("Output", *(f"{words[0].upper()}{words[1:]}" for words in head))
    return Section("Outputs", [*parts, Table(named, rows, frozenset(range(1, len(named))))])


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []


def network(
    graph: nx.DiGraph[Any] | None,
    cells: Mapping[str, nx.MultiDiGraph[Any]],
    name: str = "network",
    title: str = "Derived network",
) -> Section:
    """The drawing of a network and of its kinds of cell; ``name`` must be unique on the page."""
    if graph is None or not len(graph):
        return Section(title)
    labels = [" ".join(str(data.get("label", node)).split()) for node, data in graph.nodes(data=True)]
    svg = to_svg(network_drawing(graph), name, f"The network, {len(graph)} nodes: {'; '.join(labels)}")
    answer = "The answer of the run, in" if name == "network" else "In"
    parts: list[Part] = [Figure(svg, f"{answer} the order in which it runs, from the input to the classifier.")]
    for i, (kind, cell) in enumerate(cells.items()):
        of = "cell" if name == "network" else f"{name}-cell"
        svg = to_svg(cell_drawing(cell), f"{of}-{i}", f"The {kind}: {cell_words(cell)}")
        parts.append(Figure(svg, f"The {kind}: inputs at the left, the output at the right."))
    return Section(title, parts)


def names(folder: Path) -> Section | None:
    """The code names of the page, each explained once; None where there is none to explain."""
    answer = read_answer(folder)
    options = [*(answer.options if answer else ()), *(r.get("option", "") for r in read_rows(folder / "layers.csv"))]
    options += [row.get("option", "") for row in read_rows(folder / "probabilities.csv")]
    options += [option for candidate in read_candidates(folder) for option in candidate.choices.split()]
    explained = glossary(options)
    if not explained:
        return None
    rows: list[list[Cell]] = [[Code(option), words] for option, words in explained[:_MOST_NAMES]]
    return Section("Code names", [Table(("Name", "Meaning"), rows)])


def best_architectures(folder: Path, most: int = 10) -> Section:
    """The table of the architectures with the highest scores; the answer is marked and always in it."""
    title, candidates = "Best architectures seen", read_candidates(folder)
    if not candidates:
        return Section(title)
    ranked = sorted(candidates, key=lambda candidate: -candidate.score)
    shown = [candidate for place, candidate in enumerate(ranked) if place < most or candidate.answer]
    priced = any(candidate.cost is not None for candidate in shown)
    words = f"The {min(most, len(ranked))} highest scores of {len(ranked)} architectures, each with its latest score."
    place = next((place for place, candidate in enumerate(ranked, start=1) if candidate.answer), None)
    words += " The answer was not scored." if place is None else f" The answer is number {place}."
    if rule := read_object(folder / "result.json").get("answer_rule"):
        words += f" It is chosen by this rule: {rule}."
    if any(candidate.kind in ("sampled", "derived") for candidate in shown):
        words += " Scores of different epochs come from different weights: compare only those of the last epoch."
    kinds = list(dict.fromkeys(candidate.kind for candidate in shown))
    said = "; ".join(f"{kind}: {_KINDS[kind]}" for kind in kinds if kind in _KINDS)
    head = (
        "",
        "Score",
        *((f"Cost, {cost_axis(folder)}",) if priced else ()),
        "Kind",
        "Epoch or trial",
        "Key",
        "Choices",
    )
    rows = [_row(candidate, priced) for candidate in shown]
    numeric = frozenset({1, 2, 4} if priced else {1, 3})
    marked = frozenset(place for place, candidate in enumerate(shown) if candidate.answer)
    parts: list[Part] = [Words(words), Table(head, rows, numeric, marked)]
    return Section(title, [*parts, Words(f"{said[0].upper()}{said[1:]}.")] if said else parts)


def _row(candidate: Candidate, priced: bool) -> list[Cell]:
    cost = candidate.cost
    amount = "–" if cost is None else f"{cost:,.0f}" if cost >= 1000 else f"{cost:.3f}"
    return [
        [Mark("answer")] if candidate.answer else "",
        f"{candidate.score:.4f}",
        *([amount] if priced else []),
        candidate.kind,
        candidate.place,
        Code(candidate.key),
        Code(candidate.choices),
    ]


def configuration(folder: Path) -> Section:
    """The configuration of the run, folded away."""
    path = folder / "config.yaml"
    if not path.is_file():
        return Section("Configuration")
    text = path.read_text(encoding="utf-8", errors="replace")
    return Section("Configuration", [Folded("config.yaml, resolved", [Block(text)])])
