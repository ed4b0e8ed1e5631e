"""Evolution, Pareto front and ranking hypothesis on the page."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import write_csv

from lightning_nas.architecture import Architecture
from lightning_nas.report.page import write_report
from lightning_nas.report.pareto import pareto

POINTS = st.lists(st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=30)


@given(POINTS)
def test_the_front_is_what_nothing_surpasses(points: list[tuple[float, float]]) -> None:
    front = pareto(points)
    better = {(c, s) for c, s in points if not any(c2 <= c and s2 >= s and (c2, s2) != (c, s) for c2, s2 in points)}
    assert set(front) == better
    assert front == sorted(front)


ROWS = [(0, "a", 0.4, 1.0, "x"), (0, "b", 0.5, 3.0, "x"), (1, "c", 0.6, 2.0, "x y"), (1, "d", 0.3, 2.5, "x")]


def section(folder: Path, title: str) -> str:
    return write_report(folder, None).read_text().partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


def test_the_page_shows_generations_and_the_front(tmp_path: Path) -> None:
    write_csv(tmp_path / "evolution.csv", "generation,key,score,cost,choices", ROWS)
    assert "4 candidates in 2 generations, the best score 0.6" in section(tmp_path, "Evolution")
    front = section(tmp_path, "Score and cost")
    assert "Pareto front: 0.4 for 1; 0.6 for 2" in front
    assert "The answer is not among the scored architectures." in front


def test_the_answer_is_marked_wherever_it_is_drawn_or_listed(tmp_path: Path) -> None:
    write_csv(tmp_path / "evolution.csv", "generation,key,score,cost,choices", ROWS)
    Architecture.of("toy", {"first": "x", "second": "y"}).save(tmp_path / "architecture.json")
    assert "the diamond is the answer" in section(tmp_path, "Evolution")
    assert "answer: 1, 0.6" in section(tmp_path, "Evolution")
    assert "answer: 2, 0.6" in section(tmp_path, "Score and cost")
    listed = section(tmp_path, "Best architectures seen")
    [marked] = [row for row in listed.split("<tr") if "<mark>answer</mark>" in row]
    assert marked.startswith(' class="answer"')
    assert "<code>c</code>" in marked


def test_points_can_be_hovered_over(tmp_path: Path) -> None:
    write_csv(tmp_path / "evolution.csv", "generation,key,score,cost,choices", ROWS)
    front = section(tmp_path, "Score and cost")
    for key, score, cost, choices in (row[1:] for row in ROWS):
        assert f"<title>{key}: score {score}, cost {cost:g}, {choices}</title>" in front


@pytest.mark.parametrize("head", ["", "generation,key,score,cost,choices\n"])
def test_without_an_evolution_there_is_no_section(tmp_path: Path, head: str) -> None:
    if head:
        (tmp_path / "evolution.csv").write_text(head)
    assert "Evolution" not in write_report(tmp_path, None).read_text()


def test_without_costs_there_is_no_front(tmp_path: Path) -> None:
    write_csv(tmp_path / "evolution.csv", "generation,key,score,cost,choices", [(0, "a", 0.4, "", "x")])
    text = write_report(tmp_path, None).read_text()
    assert "generations" in text
    assert "Pareto" not in text
    assert "Not recorded: derived network, score and cost," in text.replace("result, ", "")


def test_the_page_shows_how_early_a_ranking_is_known(tmp_path: Path) -> None:
    rows = [(0, 0.2, -0.1, 0.5, 0.6, 18), (1, "", "", "", "", 18), (2, 1.0, 1.0, 1.0, 1.0, 18)]
    write_csv(tmp_path / "ranking.csv", "epoch,kendall_tau,low,high,p_tau,networks", rows)
    section = write_report(tmp_path, None).read_text().partition(">Performance-ranking hypothesis<")[2]
    assert "18 networks drawn from the space" in section
    assert "0.20 after epoch 1, 1.00 after epoch 3" in section
