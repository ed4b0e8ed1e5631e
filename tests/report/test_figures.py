"""Figures hold the numbers they were given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from lightning_nas.report.choices import Choices
from lightning_nas.report.figures import (
    curves,
    latency_bars,
    probability_heatmap,
    probability_history,
    rank_scatter,
    tau_curve,
    winner_history,
)


def test_curves_draw_the_points_of_each_key_in_its_panel() -> None:
    metrics = {"train/loss": [(0.0, 2.0), (5.0, 1.0)], "val/loss": [(1.0, 3.0)], "val/acc": [(1.0, 0.5)], "empty": []}
    first, second = curves(metrics, [("train/loss", "val/loss"), ("nothing",), ("empty",), ("val/acc",)]).axes
    assert [line.get_xydata().tolist() for line in first.lines] == [[[0, 2], [5, 1]], [[1, 3]]]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["train/loss", "val/loss"]
    assert [line.get_xydata().tolist() for line in second.lines] == [[[1, 0.5]]]
    assert second.get_title(loc="left") == "val/acc"


def test_long_curves_are_averaged_and_not_cut() -> None:
    xs = np.arange(90_000.0)
    drawn = curves({"loss": list(zip(xs, xs**2, strict=True))}, [("loss",)]).axes[0].lines[0].get_xydata()
    assert len(drawn) == 300
    assert drawn == pytest.approx(np.stack([xs, xs**2], 1).reshape(300, 300, 2).mean(1))


def test_more_curves_than_colours_are_all_drawn() -> None:
    keys = [f"lr/{i}" for i in range(9)]
    assert len(curves({key: [(0.0, 1.0)] for key in keys}, [keys]).axes[0].lines) == 9


def test_probability_heatmap_shows_each_group_and_prints_the_winners() -> None:
    normal = torch.tensor([[0.1, 0.9], [0.7, 0.3]], requires_grad=True)
    reduce = np.array([[0.2, np.nan, 0.8]])
    figure = probability_heatmap(
        {"normal": normal, "reduce": reduce}, {"normal": ["a", "b"], "reduce": ["c", "d", "e"]}
    )
    left, right = figure.axes
    assert np.array_equal(left.images[0].get_array(), normal.detach())
    assert right.images[0].get_array().filled(-1).tolist() == [[0.2, -1, 0.8]]
    assert [label.get_text() for label in right.get_xticklabels()] == ["c", "d", "e"]
    assert [(text.get_position(), text.get_text()) for text in left.texts] == [((1, 0), "0.90"), ((0, 1), "0.70")]


def test_the_heat_map_names_the_choices_and_frames_the_answer() -> None:
    choices = Choices({"g": ("layer_01", "layer_02")}, {"g": ((1,), (0,))})
    axes = probability_heatmap({"g": torch.tensor([[0.1, 0.9], [0.2, 0.8]])}, {"g": "ab"}, choices).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["layer_01", "layer_02"]
    middles = [(box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2) for box in axes.patches]
    assert middles == [pytest.approx((1, 0)), pytest.approx((0, 1))]


def test_probability_heatmap_takes_half_precision() -> None:
    half = torch.tensor([[0.25, 0.75]], dtype=torch.bfloat16)
    assert probability_heatmap({"g": half}, {"g": "ab"}).axes[0].images[0].get_array().tolist() == [[0.25, 0.75]]


def test_probability_is_drawn_as_opacity_for_any_background() -> None:
    image = probability_heatmap({"g": torch.tensor([[0.0, 0.5, 1.0]])}, {"g": "abc"}).axes[0].images[0]
    rgba = image.to_rgba(image.get_array())
    assert rgba[0, :, 3] == pytest.approx([0, 0.5, 1], abs=0.01)
    assert np.ptp(rgba[0, :, :3], axis=0) == pytest.approx([0, 0, 0])


def test_probability_history_has_a_panel_for_each_choice() -> None:
    values = np.random.default_rng(0).random((5, 8, 3))
    axes = probability_history(range(10, 15), values, ["a", "b", "c"]).axes
    assert len(axes) == 8
    assert np.array_equal(axes[7].images[0].get_array(), values[:, 7].T)
    assert [label.get_text() for label in axes[7].get_xticklabels()] == ["10", "14"]


def test_winner_history_shades_the_likeliest_and_marks_where_it_changed() -> None:
    nan = np.nan
    values = np.array([[[0.4, nan], [0.6, nan]], [[nan, 0.7], [0.8, nan]], [[nan, 0.9], [nan, 0.5]]])
    figure = winner_history({"normal": ([2, 5, 8], values, ["conv", "skip"])})
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[0.4, 0.7, 0.9], [0.6, 0.8, 0.5]]
    assert axes.collections[0].get_offsets().tolist() == [[1, 0], [2, 1]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "8"]
    [named] = axes.child_axes
    assert [label.get_text() for label in named.get_yticklabels()] == ["0.90 skip", "0.50 skip"]


@pytest.mark.filterwarnings("error")
def test_many_groups_are_drawn_in_rows_that_leave_each_its_place() -> None:
    names = [f"layer{number}_conv1_width" for number in range(13)]
    values, options = {name: np.array([[0.3, 0.7]]) for name in names}, {name: ["64", "128"] for name in names}
    history = {name: ([0, 1], np.array([[[0.5, 0.5]], [[0.3, 0.7]]]), ["64", "128"]) for name in names}
    for figure in (probability_heatmap(values, options), winner_history(history)):
        figure.draw_without_rendering()
        places = [axes.get_position() for axes in figure.axes]
        assert len({round(place.y0, 3) for place in places}) == 5
        assert min(place.width * figure.get_figwidth() for place in places) > 0.8


def test_rank_scatter_draws_every_architecture_and_names_tau() -> None:
    axes = rank_scatter(torch.tensor([0.25, 0.5]), [0.75, 1.0], 1.0).axes[0]
    assert axes.collections[0].get_offsets().tolist() == [[0.25, 0.75], [0.5, 1.0]]
    assert axes.get_title(loc="left") == "Kendall's tau 1.00"


def test_rank_scatter_marks_the_answer() -> None:
    axes = rank_scatter([0.25, 0.5], [0.75, 1.0], 1.0, ["a", "b"], "b").axes[0]
    assert axes.collections[1].get_offsets().tolist() == [[0.5, 1.0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["answer"]


@pytest.mark.parametrize("tau", [None, float("nan")])
def test_rank_scatter_says_when_tau_is_not_defined(tau: float | None) -> None:
    assert "not defined" in rank_scatter([1.0], [1.0], tau).axes[0].get_title(loc="left")


def test_tau_curve_draws_the_interval_of_each_epoch() -> None:
    axes = tau_curve([(1.0, 0.2), (3.0, 0.6)], [(1.0, -0.1, 0.5), (3.0, 0.3, 0.8)]).axes[0]
    bars = axes.collections[0].get_segments()
    assert np.array(bars).tolist() == [[[1, -0.1], [1, 0.5]], [[3, 0.3], [3, 0.8]]]
    assert axes.lines[-1].get_xydata().tolist() == [[1, 0.2], [3, 0.6]]


def test_latency_bars_run_from_top_to_bottom_with_fixed_rows_apart() -> None:
    axes = latency_bars([("stem", "fixed", 0.5), ("layer_01", "k3", 2.0), ("layer_02", "skip", 0.0)]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 2.0, 0.0]
    assert axes.yaxis_inverted()
    fixed, layer, skip = (to_hex(bar.get_facecolor()) for bar in axes.patches)
    assert fixed != layer == skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stem", "layer_01 k3", "layer_02 skip"]
    assert axes.get_xlabel() == "predicted latency (ms)"
    assert latency_bars([("stem", "fixed", 5.0)], "MACs").axes[0].get_xlabel() == "MACs"


def test_importing_the_report_loads_neither_pyplot_nor_torch() -> None:
    code = (
        "import sys, lightning_nas.report.page; print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
