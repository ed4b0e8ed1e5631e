"""Figures as parts of a page."""

import re
import xml.etree.ElementTree as ET

import pytest
import torch
from matplotlib.figure import Figure
from synthetic_run import chain

from lightning_nas.report.drawing import network_drawing
from lightning_nas.report.figures import curves, latency_bars, probability_heatmap, rank_scatter
from lightning_nas.report.svg import hover, to_svg
from lightning_nas.report.theme import COLORS

XLINK = "{http://www.w3.org/1999/xlink}href"
HOSTILE = ["<script>alert(1)</script>", '"><img src=x>', r"$\frac{$ $x^2$", ']]> & &amp; id="#a" -->', "深い層"]


def picture() -> Figure:
    return probability_heatmap({"g": torch.tensor([[0.1, 0.9]])}, {"g": ["a", "b"]})


def test_the_same_figure_gives_the_same_text_without_a_date() -> None:
    svg = to_svg(picture(), "heat", "a heat map")
    assert svg == to_svg(picture(), "heat", "a heat map")
    assert not re.search(r"<metadata|<dc:|\b20\d\d-\d\d", svg)


def test_ids_begin_with_the_name_and_references_find_them() -> None:
    root = ET.fromstring(to_svg(rank_scatter([1.0], [2.0], 0.5), "scatter", "dots"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 5
    assert all(name.startswith("scatter-") for name in ids)
    text = ET.tostring(root, encoding="unicode")
    targets = [e.get(XLINK)[1:] for e in root.iter() if e.get(XLINK)] + re.findall(r"url\(#([^)]*)\)", text)
    assert targets
    assert set(targets) <= set(ids)


def test_colours_become_variables_of_the_page() -> None:
    svg = to_svg(latency_bars([("stem", "fixed", 1.0), ("layer", "k3", 2.0)]), "bars", "bars")
    assert not any(light in svg for light, _ in COLORS.values())
    assert {"var(--blue)", "var(--muted)", "var(--ink)", "var(--grid)"} <= set(re.findall(r"var\(--\w+\)", svg))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_printed_as_it_stands_and_nothing_else(text: str) -> None:
    drawn = {
        "heat": probability_heatmap({text: torch.tensor([[1.0]])}, {text: [text]}),
        "bars": latency_bars([("layer", text, 1.0)]),
        "lines": curves({text: [(0.0, 1.0)], "b": [(0.0, 1.0)]}, [(text,), (text, "b")]),
        "chain": network_drawing(chain([text])),
    }
    for name, figure in drawn.items():
        root = ET.fromstring(to_svg(figure, name, text))
        assert root.get("aria-label") == text
        begins = text[:20]
        assert any(begins in "".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert tags <= {
            "svg",
            "defs",
            "style",
            "g",
            "path",
            "text",
            "tspan",
            "use",
            "image",
            "clipPath",
            "rect",
            "title",
        }


def test_control_characters_do_not_reach_the_page() -> None:
    svg = to_svg(latency_bars([("a\x00b\x1b\u202e", "k3", 1.0)]), "bars", "bars")
    ET.fromstring(svg)
    assert not re.search("[\x00\x1b\u202e]", svg)


def test_endless_text_is_cut() -> None:
    assert len(to_svg(latency_bars([("x" * 100_000, "k3", 1.0)]), "bars", "bars")) < 30_000


def test_hover_texts_are_titles_of_their_shapes_in_order() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    points = axes.scatter([0, 1, 2], [0, 1, 4])
    hover(points, ["first", "<second>", "third"])
    [bar] = axes.bar([3], [4])
    hover(bar, ["bar"])
    root = ET.fromstring(to_svg(figure, "tips", "tips"))
    named = [(e.tag.rpartition("}")[2], e[0].text) for e in root.iter() if len(e) and e[0].tag.endswith("title")]
    assert sorted(named) == [("path", "bar"), ("use", "<second>"), ("use", "first"), ("use", "third")]
    xs = {e[0].text: float(e.get("x", "nan")) for e in root.iter() if len(e) and e[0].tag.endswith("title")}
    assert xs["first"] < xs["<second>"] < xs["third"]
