"""The drawing is measured: where words, boxes and lines end up."""

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lightning_nas import zoo
from lightning_nas.report.cell_drawing import cell_drawing, cell_words
from lightning_nas.report.svg import to_svg
from lightning_nas.report.theme import COLORS
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace

Cell = nx.MultiDiGraph
SPACES: dict[str, SearchSpace] = {
    "darts": DARTSSpace(),
    "darts_cell": DARTSCellSpace(nodes=3, operations=["skip_connect", "conv_7x1_1x7"]),
    "darts_rnn": DARTSRNNSpace(),
    "nasbench201": NASBench201Space(),
}


def cells(space: SearchSpace, count: int) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return [cell for _ in range(count) for cell in space.cell_graphs(space.sample(generator)).values()]


def published(space: str, name: str) -> dict[str, Any]:
    return SPACES[space].cell_graphs(zoo.load(name))


def words(figure: Figure) -> list[tuple[str, Any]]:
    """Every text and the box that its letters fill, in inches from the bottom left."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    inches = figure.dpi_scale_trans.inverted()
    return [(t.get_text(), t.get_window_extent(renderer).transformed(inches)) for t in figure.axes[0].texts]


def lines(figure: Figure) -> list[Any]:
    """Points close together on every line, in inches from the bottom left."""
    height = figure.get_size_inches()[1]
    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyArrowPatch):
            [points] = patch._path_original.interpolated(1).to_polygons(closed_only=False)
            dense = [np.linspace(a, b, 20) for a, b in itertools.pairwise(points)]
            found.append(np.concatenate(dense) * (1, -1) + (0, height))
    return found


@pytest.mark.parametrize("name", SPACES)
def test_no_word_touches_another_word_a_line_or_the_edge(name: str) -> None:
    for cell in cells(SPACES[name], 3):
        figure = cell_drawing(cell)
        figure.canvas.draw()
        width, height = figure.get_size_inches()
        said = words(figure)
        for (a, first), (b, second) in itertools.combinations(said, 2):
            assert not first.overlaps(second), f"{a!r} on {b!r}"
        for word, box in said:
            assert 0 <= box.x0 < box.x1 <= width, word
            assert 0 <= box.y0 < box.y1 <= height, word
            for line in lines(figure):
                inside = (line > (box.x0, box.y0)) & (line < (box.x1, box.y1))
                assert not inside.all(1).any(), f"a line runs through {word!r}"


def test_the_dartss_paper_normal_cell_is_drawn_as_it_is_printed() -> None:
    cell = published("darts", "darts_v2")["normal cell"]
    assert cell_words(cell) == (
        "0 = sep_conv_3x3(c_{k-2}) + sep_conv_3x3(c_{k-1}); 1 = sep_conv_3x3(c_{k-2}) + sep_conv_3x3(c_{k-1}); "
        "2 = skip_connect(c_{k-2}) + sep_conv_3x3(c_{k-1}); 3 = skip_connect(c_{k-2}) + dil_conv_3x3(0); "
        "c_{k} = 0 + 1 + 2 + 3"
    )
    place = {word: (box.x0 + box.x1) / 2 for word, box in words(cell_drawing(cell))}
    assert place["c_{k-2}"] == pytest.approx(place["c_{k-1}"])
    assert place["c_{k-1}"] < place["0"] < place["3"] < place["c_{k}"]
    assert sorted(word for word, _ in words(cell_drawing(cell))) == sorted(
        [*("c_{k-2}", "c_{k-1}", "c_{k}"), *"0123", "dil_conv_3x3", *["skip_connect"] * 2, *["sep_conv_3x3"] * 5]
    )


def test_the_recurrent_cell_runs_from_word_and_hidden_state_to_the_mean() -> None:
    cell = published("darts_rnn", "darts_v2_ptb")["recurrent cell"]
    assert cell_words(cell) == (
        "0 = x_{t} + h_{t-1}; 1 = sigmoid(0); 2 = relu(1); 3 = relu(1); 4 = identity(1); 5 = tanh(2); 6 = sigmoid(5); "
        "7 = tanh(3); 8 = relu(5); h_{t} = 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8"
    )
    assert "mean" in [word for word, _ in words(cell_drawing(cell))]


def test_an_edge_without_connection_is_dashed_on_both_sides_of_its_word() -> None:
    space = SPACES["nasbench201"]
    assert isinstance(space, NASBench201Space)
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
    [cell] = space.cell_graphs(space.from_string(text)).values()
    assert cell.number_of_edges() == 6
    figure = cell_drawing(cell)
    dashed = [p.get_linestyle() != "solid" for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    assert (len(dashed), sum(dashed)) == (12, 6)


def test_two_operations_between_the_same_states_are_two_lines() -> None:
    cell = DARTSCellSpace().cell_graphs(zoo.load("nasnet"))["normal cell"]
    assert cell.number_of_edges("c_{k-2}", "3") == 2  # the paper averages the same input twice
    arrows = [p for p in cell_drawing(cell).axes[0].patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == 2 * 10 + 5


def test_inputs_nodes_and_output_are_told_apart() -> None:
    cell = published("darts", "darts_v2")["normal cell"]
    boxes = [p for p in cell_drawing(cell).axes[0].patches if isinstance(p, FancyBboxPatch)]
    colours = dict(zip(cell, (to_hex(box.get_edgecolor()) for box in boxes), strict=True))
    named = {light: name for name, (light, _) in COLORS.items()}
    assert [named[colours[node]] for node in ("c_{k-2}", "c_{k-1}", "0", "3", "c_{k}")] == [
        *("teal", "teal"), *("blue", "blue"), "orange",
    ]  # fmt: skip


def test_the_picture_is_deterministic_and_takes_the_pages_colours() -> None:
    first, second = (to_svg(cell_drawing(cells(SPACES["darts"], 1)[0]), "cell-0", "a cell") for _ in range(2))
    assert first == second
    assert not {light for light, _ in COLORS.values()} & set(first.replace('"', " ").replace(";", " ").split())
    assert "var(--ink)" in first


def test_a_cycle_is_an_error() -> None:
    with pytest.raises(nx.NetworkXUnfeasible):
        cell_drawing(Cell([("a", "b"), ("b", "a")]))
