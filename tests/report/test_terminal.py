"""The table at the end of a run, on 80 columns."""

import io
import re

import pytest
from rich.console import Console

from lightning_nas.functional.ranking import BETTER, TOO_FEW
from lightning_nas.report.terminal import summary

RESULT = {
    "strategy": "fbnet", "dataset": "digits", "test_acc": 0.9833, "test_samples": 359, "params": 104522,
    "macs": 2345678, "latency_measured_ms": 9.527, "latency_predicted_ms": None, "kendall_tau": 0.58,
    "latency_device": "AMD EPYC, 1 thread, batch 1, float32",
}  # fmt: skip


def printed(width: int = 80, **more: object) -> str:
    file = io.StringIO()
    extra = {"NAS-Bench-201": "94.37% cifar10", "nothing": "", "report": "/a/long/path" * 10 + "/report.html"}
    Console(file=file, width=width).print(summary(RESULT | more, "k3_e1 skip", extra))
    return file.getvalue()


def test_figures_stand_with_their_interval_and_device() -> None:
    text = printed(200)
    assert "fbnet on digits" in text
    for words in (
        "98.33% (95% interval 96.4% to 99.2%, n = 359)", "104,522", "2,345,678", "0.580", "k3_e1 skip",
        "9.527 ms measured (AMD EPYC, 1 thread, batch 1, float32)", "94.37% cifar10",
    ):  # fmt: skip
        assert words in text
    assert "not taken" not in text
    assert "predicted" not in text


@pytest.mark.parametrize("width", [80, 60])
def test_the_table_fits_and_nothing_is_cut(width: int) -> None:
    text = printed(width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    cells = "".join(line.split("│")[2].strip() for line in text.splitlines() if line.count("│") == 3)
    assert "/a/long/path" * 10 + "/report.html" in cells


@pytest.mark.parametrize("key", ["test_acc", "params", "macs", "latency_measured_ms", "kendall_tau"])
def test_a_figure_without_a_value_has_no_row(key: str) -> None:
    assert printed().count("│") - printed(**{key: None}).count("│") in (3, 6)  # a row of one line or two


def test_rows_without_content_are_left_out() -> None:
    assert "nothing" not in printed()


def test_macs_stand_beside_kendalls_tau() -> None:
    assert "0.580 (MACs alone 0.733)" in printed(kendall_tau_macs=0.733)


def test_a_tau_that_says_nothing_is_left_out() -> None:
    assert "Kendall" not in printed(ranking=TOO_FEW)
    assert f"0.580: {BETTER}" in re.sub(r" *│\n│ *│ *", " ", printed(ranking=BETTER))


def test_a_retraining_has_no_strategy() -> None:
    assert "retraining on digits" in printed(strategy=None)


def test_markup_in_a_path_is_shown_as_it_stands() -> None:
    file = io.StringIO()
    Console(file=file, width=80).print(summary(RESULT, extra={"report": "/runs/[bold]x/report.html"}))
    assert "/runs/[bold]x/report.html" in file.getvalue()


def test_steps_and_warnings_have_rows_which_an_older_result_has_not() -> None:
    steps = {"weights": 168, "architecture": None, "trials": None}
    text = printed(steps=steps, warnings=["the search ended after 1 of 3 epochs"])
    assert "168 of the weights" in text
    assert "the search ended after 1 of 3 epochs" in text
    assert not {"steps", "warning"} & {*printed().split()}


def test_each_latency_is_named_by_its_device() -> None:
    here = "AMD EPYC, 1 thread"
    phone = {"latency_predicted_ms": 6.0, "latency_predicted_device": "Google Pixel 1", "latency_device": here}
    assert f"9.527 ms measured ({here}); 6.000 ms predicted (Google Pixel 1)" in printed(200, **phone)
    same = {"latency_predicted_ms": 6.0, "latency_predicted_device": here, "latency_device": here}
    assert f"9.527 ms measured, 6.000 ms predicted (-37%) ({here})" in printed(200, **same)
