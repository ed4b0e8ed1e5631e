"""``specialised.html``: networks for several targets beside uniform ones of the same supernet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lightning_nas.files import atomic
from lightning_nas.report.parts import Code, Part, Section, Table, Words, render
from lightning_nas.report.parts import Figure as Picture
from lightning_nas.report.quantities import wilson
from lightning_nas.report.record import Row, number, read_rows
from lightning_nas.report.svg import hover, to_svg
from lightning_nas.report.theme import ACCENT, MUTED, WIDTH, dress, new_figure, plain

_COLUMNS = ("name", "asked", "cost", "measured_ms", "params", "macs", "figure")


def write_page(folder: Path, score: str) -> Path:
    """Write the page from ``specialised.csv`` of the same folder.

    Args:
        folder: of both.
        score: name of the task's figure; the interval of an accuracy is drawn.
    """
    rows = read_rows(folder / "specialised.csv")
    figure = _figure(rows, score)
    said = "; ".join(f"{row['name']}: {row['figure']} for {row['cost']}" for row in rows)
    body = [[_form(row, name) for name in _COLUMNS] + [Code(row["architecture"])] for row in rows]
    marked = frozenset(place for place, row in enumerate(rows) if row["kind"] == "specialised")
    head = ["network", "target", "cost", "measured, ms", "parameters", "MACs", f"test {score}", "architecture"]
    about = "All networks have the weights of one supernet, with batch norm recalibrated; none was trained further."
    if len(marked) < len(rows):
        about += " Uniform networks take the same share of the options at every decision."
    parts: list[Part] = [
        Words(about),
        Picture(to_svg(figure, "specialised", said), "Test figure and cost by the table. Grey: uniform networks."),
        Table(head, body, frozenset(range(1, 7)), marked),
    ]
    page = folder / "specialised.html"
    with atomic(page) as file:
        file.write(render("Networks for several targets", f"{len(marked)} targets", [Section("Networks", parts)]))
    return page


def _form(row: Row, name: str) -> str:
    cell = number(row[name])
    if cell is None:
        return row[name]
    return f"{cell:.4f}" if name in ("figure", "measured_ms") else f"{cell:,.6g}" if cell < 1e5 else f"{cell:,.0f}"


def _figure(rows: Sequence[Row], score: str) -> Figure:
    figure = new_figure(WIDTH * 0.75, 3.2)
    axes = figure.add_subplot()
    for kind, color in (("uniform", MUTED), ("specialised", ACCENT)):
        there = sorted((row for row in rows if row["kind"] == kind), key=lambda row: float(row["cost"]))
        costs, scores = [float(row["cost"]) for row in there], [float(row["figure"]) for row in there]
        axes.plot(costs, scores, color=color, linewidth=1)
        dots = axes.scatter(costs, scores, s=24, color=color, zorder=3)
        hover(dots, [plain(f"{row['name']}: {row['figure']} for {row['cost']}", 80) for row in there])
        if score == "acc":
            ends = [wilson(float(row["figure"]) * float(row["samples"]), int(row["samples"])) for row in there]
            axes.vlines(costs, [low for low, _ in ends], [high for _, high in ends], color=color, linewidth=1)
    dress(axes, x="cost by the table", y=f"test {score}")
    return figure
