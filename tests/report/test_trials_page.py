"""Trials on the page."""

from pathlib import Path

import networkx as nx
from synthetic_run import write_csv

from lightning_nas.architecture import Architecture
from lightning_nas.report.page import write_report

HEAD = "trial,key,reward,figure,epochs,cost,seconds,failed,choices"


def section(folder: Path, title: str = "Trials") -> str:
    return write_report(folder, None).read_text().partition(f">{title}<")[2].partition("</section>")[0]


def test_the_page_shows_rewards_failures_and_the_front(tmp_path: Path) -> None:
    rows = [
        (0, "a", 0.4, 0.4, 3, 1.0, 2.5, "", "x y"),
        (1, "b", 0.0, "", 0, 9.0, 0.5, "NumericalError: <NaN>", "y y"),
        (2, "c", 0.6, 0.6, 3, 2.0, 3.0, "", "x x"),
        (3, "c", 0.6, 0.6, 3, 2.0, 0.0, "", "x x"),
    ]
    write_csv(tmp_path / "trials.csv", HEAD, rows)
    text = section(tmp_path)
    assert "3 rewards, the best 0.6 at trial 2" in text
    assert "Pareto front: 0.4 for 1; 0.6 for 2" in section(tmp_path, "Score and cost")
    assert "NumericalError: &lt;NaN&gt;" in text
    assert "6.0 s" in text
    assert "Different architectures" in text


def test_the_last_population_and_the_table_of_q_values_are_there(tmp_path: Path) -> None:
    write_csv(tmp_path / "trials.csv", HEAD, [(0, "a", 0.4, 0.4, 3, 1.0, 2.5, "", "x y")])
    assert "Q-values" not in section(tmp_path)
    assert "population" not in section(tmp_path)
    write_csv(tmp_path / "population.csv", "trial,age,reward,choices", [(3, 6, 0.5, "x"), (9, 0, 0.7, "<y>")])
    values = [("start", "<a>", 0.5), ("start", "b", 0.75), ("b", "end", 0.25)]
    write_csv(tmp_path / "q_values.csv", "state,action,q", values)
    text = section(tmp_path)
    assert "2 members, the oldest of 6 trials" in text
    assert "3 known, of 2 states" in text
    assert "&lt;a&gt;" not in text  # not the best of its state
    assert text.index("0.7500") < text.index("0.2500")


def test_a_run_without_trials_has_no_such_part(tmp_path: Path) -> None:
    assert ">Trials<" not in write_report(tmp_path, None).read_text()


def test_trials_are_among_the_best_architectures(tmp_path: Path) -> None:
    write_csv(tmp_path / "trials.csv", HEAD, [(0, "the-key", 0.4, 0.4, 3, 1.0, 2.5, "", "x y")])
    best = section(tmp_path, "Best architectures seen")
    assert "the-key" in best
    assert "0.4000" in best


def test_the_next_best_are_drawn(tmp_path: Path) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("only", label="the only layer")
    text = write_report(tmp_path, graph, {}, [("Second", graph, {})]).read_text()
    assert text.count("The network, 1 nodes: the only layer") == 2
    assert ">Second<" in text


def test_the_answer_is_marked_among_trials_and_members(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "trials.csv", HEAD, [(0, "a", 0.4, 0.4, 3, 1.0, 2.5, "", "x y"), (1, "b", 0.5, *[1] * 4, "", "x")]
    )
    write_csv(tmp_path / "population.csv", "trial,age,reward,choices", [(0, 6, 0.4, "x y"), (1, 5, 0.5, "x")])
    Architecture.of("toy", {"first": "x", "second": "y"}).save(tmp_path / "architecture.json")
    text = section(tmp_path)
    assert "<title>answer: 0, 0.4</title>" in text
    assert "<title>answer: 6, 0.4</title>" in text


def test_trials_are_not_missing_what_shared_weights_have(tmp_path: Path) -> None:
    write_csv(tmp_path / "trials.csv", HEAD, [(0, "a", 0.4, 0.4, 3, 1.0, 2.5, "", "x y")])
    missing = write_report(tmp_path, None).read_text().partition("Not recorded: ")[2]
    assert "search" in missing
    assert "choice probabilities" not in missing
