"""A search on NAS-Bench-201's cells, ranked and judged by a table."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from commands import Commands

from lightning_nas.ops.nasbench201 import OPTIONS

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
    """A table in which a cell is the better, the more 3x3 convolutions it has."""
    cells = list(itertools.product(OPTIONS, repeat=6))
    text = [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in cells]
    percent = np.array([10.0 * cell.count("nor_conv_3x3") for cell in cells])
    columns = {f"{name}_test200": percent + i for i, name in enumerate(("c10", "c100", "in16"))}
    file = tmp_path / "nasbench201.npz"
    np.savez(file, arch=np.array(text), **columns)
    return file


def test_a_rank_check_by_table_trains_nothing_and_the_derived_cell_is_looked_up(cli: Commands, table: Path) -> None:
    run = f"hydra.run.dir={table.parent / 'run'}"
    truth = (
        "rank_check.truth=table",
        f"callbacks.rank_check.truth.path={table}",
        "callbacks.rank_check.architectures=8",
    )
    ended = cli.run(*SHORT, *truth, run)
    assert ended.code == 0, ended.err
    folder = table.parent / "run"
    points = list(csv.DictReader((folder / "rank_points.csv").open()))
    assert {round(float(point["truth"]), 3) for point in points} <= {i / 10 for i in range(7)}
    assert all(-1 <= float(row["kendall_tau_macs"]) <= 1 for row in csv.DictReader((folder / "rank.csv").open()))
    found = list(json.loads((folder / "architecture.json").read_text())["choices"].values())
    tens = 10 * found.count("nor_conv_3x3")
    for i, name in enumerate(("CIFAR-10", "CIFAR-100", "ImageNet16-120")):
        assert f"{tens + i:.2f}% {name} " in ended.out
    assert "of MACs alone" in ended.out


def test_without_a_table_nothing_is_said_and_a_rank_check_by_table_says_what_it_needs(cli: Commands) -> None:
    cli.environment["LIGHTNING_NAS_DATA"] = ""
    ended = cli.run(*SHORT, "~callbacks.rank_check", "stages=[retrain]", f"architecture={_file(cli.folder)}")
    assert ended.code == 0, ended.err
    assert "NAS-Bench-201" not in ended.out
    cli.run(*SHORT, "rank_check.truth=table").refused("environment variable LIGHTNING_NAS_DATA")
    other = ("debug=fast", "latency_table=macs", "logger=none", "rank_check.truth=table")
    cli.run(*other).refused("not search_space=fbnet_small", "rank_check.truth=stand_alone")
    cli.run("rank_check.truth=table", "callbacks=none").refused("rank_check")


def _file(folder: Path) -> Path:
    choices = {f"edge_{node}_{source}": "skip_connect" for node in (1, 2, 3) for source in range(node)}
    file = folder / "mine.json"
    file.write_text(json.dumps({"format": 1, "space": "nasbench201_small", "choices": choices}))
    return file
