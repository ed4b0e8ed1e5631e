"""A search on NAS-Bench-201's cells, ranked and judged by a table."""

import csv
import json
import re
from pathlib import Path

import pytest
from commands import Commands
from tables import write_table

from lightning_nas.architecture import Architecture
from lightning_nas.functional.ranking import TOO_FEW
from lightning_nas.latency.macs import count_macs
from lightning_nas.report.sweep import sheet
from lightning_nas.spaces.nasbench201.space import NASBench201Space

SHORT = (
    *("debug=fast", "search_space=nasbench201_small", "search_space.channels=4", "search_space.cells=[1,1]"),
    *(
        "strategy.candidates=2",
        "strategy.score_batches=1",
        "latency_table=macs",
        "logger=none",
        "dataset.batch_size=16",
    ),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path)


def test_a_rank_check_by_table_trains_nothing(cli: Commands, table: Path) -> None:
    run = f"hydra.run.dir={table.parent / 'run'}"
    truth = (
        "rank_check.truth=table",
        f"callbacks.rank_check.truth.path={table}",
        "callbacks.rank_check.truth.any_data=true",  # these are digits
        "callbacks.rank_check.architectures=8",
    )
    ended = cli.run(*SHORT, *truth, run)
    assert ended.code == 0, ended.err
    folder = table.parent / "run"
    points = list(csv.DictReader((folder / "rank_points.csv").open()))
    assert {round(float(point["truth"]), 3) for point in points} <= {i / 10 for i in range(7)}
    assert all(-1 <= float(row["kendall_tau_macs"]) <= 1 for row in csv.DictReader((folder / "rank.csv").open()))
    found = list(json.loads((folder / "architecture.json").read_text())["choices"].values())
    tens, told = 10 * found.count("nor_conv_3x3"), re.sub(r" *│\n│ *│ *", " ", ended.out)
    for i, name in enumerate(("CIFAR-10", "CIFAR-100", "ImageNet16-120")):
        assert f"{tens + i:.2f}% {name}" in told
    content = json.loads((folder / "result.json").read_text())
    if content["kendall_tau"] is not None:  # the scores differ
        assert content["kendall_tau_architectures"] == 8
        assert ("(MACs alone" in ended.out) == (content["ranking"] != TOO_FEW)


def test_a_rank_check_by_table_says_that_it_needs_the_table(cli: Commands) -> None:
    cli.environment["LIGHTNING_NAS_DATA"] = ""
    ended = cli.run(*SHORT, "~callbacks.rank_check", "stages=[retrain]", f"architecture={_file(cli.folder)}")
    assert ended.code == 0, ended.err
    assert "NAS-Bench-201" not in ended.out
    by_table = ("rank_check.truth=table", "callbacks.rank_check.truth.any_data=true")
    cli.run(*SHORT, *by_table).refused("environment variable LIGHTNING_NAS_DATA")
    other = ("debug=fast", "latency_table=macs", "logger=none", "rank_check.truth=table")
    cli.run(*other).refused("not search_space=fbnet_small", "rank_check.truth=stand_alone")
    cli.run("rank_check.truth=table", "callbacks=none").refused("rank_check")


def _file(folder: Path) -> Path:
    choices = {f"edge_{node}_{source}": "skip_connect" for node in (1, 2, 3) for source in range(node)}
    file = folder / "mine.json"
    file.write_text(json.dumps({"format": 1, "space": "nasbench201_small", "choices": choices}))
    return file


def test_a_search_that_heeds_no_result_and_data_that_nothing_is_trained_on_are_said(cli: Commands, table: Path) -> None:
    asked = ("strategy=bananas", "engine=table", "search_space=nasbench201_small", f"engine.path={table}")
    more = ("logger=none", "latency_table=none", "strategy.trials=3", f"hydra.run.dir={table.parent / 'run'}")
    ended = cli.run(*asked, *more, "dataset=digits")
    assert ended.code == 0, ended.err
    said = json.loads((table.parent / "run" / "result.json").read_text())["warnings"]
    assert len(said) == 2
    assert any("its first 10 trials before it heeds any result, and there were 3" in words for words in said)
    assert any(words.startswith("dataset=digits: no network is trained on it") for words in said)


def test_a_search_by_the_table_trains_nothing_and_is_resumed(cli: Commands, table: Path) -> None:
    """3,000 simulated seconds are some hundred cells at 6 to 42 s; the best has six 3x3 convolutions."""
    asked = ("strategy=evolution", "engine=table", "search_space=nasbench201", f"engine.path={table}", "logger=none")
    short = (f"hydra.run.dir={table.parent / 'run'}", "latency_table=none", "strategy.seconds=3000")
    ended = cli.run(*asked, *short)
    assert ended.code == 0, ended.err
    folder = table.parent / "run"
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    spent = sum(float(row["seconds"]) for row in rows)
    assert 3000 <= spent < 3000 + 6 * 7
    for row in rows:
        convolutions = row["choices"].split().count("nor_conv_3x3")
        assert float(row["reward"]) == pytest.approx(convolutions / 10)
        assert float(row["seconds"]) in (0.0, pytest.approx(6.0 * (1 + convolutions)))
    best = max(float(row["reward"]) for row in rows)
    found = json.loads((folder / "architecture.json").read_text())["choices"].values()
    assert list(found).count("nor_conv_3x3") == round(10 * best)
    told = re.sub(r" *│\n│ *│ *", " ", ended.out)
    assert f"{100 * best:.2f}% (CIFAR-10, 200 epochs, read from NAS-Bench-201, not trained here)" in told
    assert "evolution on cifar10" in ended.out
    cell = Architecture.load(folder / "architecture.json")
    network = NASBench201Space().network(cell)  # CIFAR's, as in the table, though the data set is digits
    assert json.loads((folder / "result.json").read_text())["macs"] == count_macs(network, (3, 32, 32))
    assert not (folder / "retrain").exists()
    result = json.loads((folder / "result.json").read_text())
    percent = round(100 * best)  # in this table that of the test images too, and one more in each further data set
    assert result["test_acc"] == pytest.approx(best)
    in_others = {"CIFAR-10": percent, "CIFAR-100": percent + 1, "ImageNet16-120": percent + 2}
    assert {name: round(100 * share) for name, share in result["tabulated_acc"].items()} == in_others
    assert result["accuracy_source"] == "CIFAR-10, 200 epochs, read from NAS-Bench-201, not trained here"
    page = (folder / "report.html").read_text()
    assert f"{percent:.2f}% (CIFAR-10, 200 epochs, read from NAS-Bench-201, not trained here)" in page
    swept = sheet([("0", result), ("1", result)])
    assert list(swept.notes) == ["accuracy: CIFAR-10, 200 epochs, read from NAS-Bench-201, not trained here"]
    assert any(f"{best:.4f}" in cell for cell in swept.groups[0][0].cells)
    assert ">The next best, number 2<" in page
    assert ">The next best, number 3<" in page
    assert "10 members, the oldest of 9 trials" in page
    youngest = [row["trial"] for row in csv.DictReader((folder / "population.csv").open())]
    assert youngest == [row["trial"] for row in rows[-10:]]
    assert "no path of the answer" not in ended.err
    kept = (folder / "trials.csv").read_text()
    (folder / "trials.csv").write_text(kept[: len(kept) // 2])
    again = cli.run(*asked, *short, "ckpt_path=last")
    assert again.code == 0, again.err
    assert (folder / "trials.csv").read_text() == kept
    [repaired] = json.loads((folder / "result.json").read_text())["warnings"]
    assert repaired.endswith("trials.csv' was damaged and is written again")
    assert repaired in (folder / "lightning_nas.log").read_text()
    before = (folder / "trials.csv").read_text()
    ended = cli.run(*asked, *short, "ckpt_path=last")
    assert ended.code == 0, ended.err
    assert (folder / "trials.csv").read_text() == before
    cli.run(*asked, *short, "engine.epochs=200", "ckpt_path=last").refused("engine.epochs was 12, is 200")
    (table.parent / "other").mkdir()
    other = f"engine.path={write_table(table.parent / 'other', 'none')}"  # resumed with it, two tables would be mixed
    cli.run(*asked, *short, other, "ckpt_path=last").refused("results was", "resume.allow_inexact=true")


def test_an_answer_that_ignores_its_input_is_told_of(cli: Commands, tmp_path: Path) -> None:
    """By this table the best cell is the empty one."""
    asked = (
        "strategy=evolution",
        "engine=table",
        "search_space=nasbench201",
        f"engine.path={write_table(tmp_path, 'none')}",
    )
    folder = tmp_path / ("deep" * 30)
    ended = cli.run(*asked, "logger=none", "latency_table=none", "child=none", f"hydra.run.dir={folder}")
    assert ended.code == 0, ended.err
    assert f"{folder}/report.html" in re.sub(r" *│\n│ *│ *", "", ended.out)  # of a table, and whole
    assert "no path of the answer leads from its input to its output" in ended.out + ended.err


def test_what_is_to_be_retrained_besides_must_fit_the_data(cli: Commands, table: Path) -> None:
    asked = ("strategy=evolution", "engine=table", "search_space=nasbench201", f"engine.path={table}", "logger=none")
    ended = cli.run(*asked, "stages=[search,retrain]", f"hydra.run.dir={cli.folder / 'run'}")
    ended.refused("3x32x32", "1x8x8", "search_space.image_size")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy=fbnet", "search_space=pnas_small"], ["search_space=pnas_small has no supernet", "evolution"]),
        (["strategy=fbnet", "engine=local"], ["engine, child", "trains no children"]),
        (["strategy=random", "engine=none"], ["engine=local"]),
        (["strategy=random", "engine=table", "search_space=nasbench201", "child.epochs=2"], ["child: got", "or null"]),
        (["strategy=random", "engine=table", "search_space=nasbench201", "child=block_qnn"], ["child=block_qnn:"]),
        (["strategy=random", "callbacks=default"], ["callbacks.architecture_logger", "callbacks=trials"]),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_data_are_read(
    overrides: list[str], words: list[str], cli: Commands
) -> None:
    ended = cli.run(*overrides, "logger=none", f"hydra.run.dir={cli.folder / 'run'}")
    ended.refused(*words)
    assert "parts of the data" not in ended.out + ended.err
