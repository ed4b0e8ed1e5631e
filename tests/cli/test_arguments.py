"""Flags and overrides in any order are read as Hydra reads them in its own."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from commands import Commands
from hydra._internal.utils import get_args_parser

from lightning_nas.cli.arguments import arranged, value
from lightning_nas.data.images import NPZ
from lightning_nas.data.words import read_text
from lightning_nas.files import read_json, write_json
from lightning_nas.truth.nasbench201 import table_file

PIECES = [["-m"], ["--config-dir", "my_conf"], ["dataset=mine"], ["seed=1,2"]]


def test_hydra_reads_the_same_from_every_order() -> None:
    for order in itertools.permutations(PIECES):
        arguments = [word for piece in order for word in piece]
        read = get_args_parser().parse_args(arranged(arguments))
        assert (read.multirun, read.config_dir) == (True, "my_conf")
        assert read.overrides == [word for word in arguments if "=" in word]


@pytest.mark.parametrize(
    ("arguments", "flag", "given"),
    [
        (["a=1", "-cn", "latency", "b=2"], "config_name", "latency"),
        (["--config-d", "here", "a=1", "b=2"], "config_dir", "here"),
        (["a=1", "--config-dir=here", "b=2"], "config_dir", "here"),
        (["a=1", "-c", "job", "b=2"], "cfg", "job"),
        (["a=1", "--info", "b=2"], "info", "all"),
        (["--info", "defaults-tree", "a=1", "b=2"], "info", "defaults-tree"),
        (["a=1", "--resolve", "b=2", "-p", "strategy"], "package", "strategy"),
    ],
)
def test_every_flag_keeps_its_value(arguments: list[str], flag: str, given: str) -> None:
    read = get_args_parser().parse_args(arranged(arguments))
    assert getattr(read, flag) == given
    assert read.overrides == ["a=1", "b=2"]


def test_all_flags_of_hydra_that_take_a_value_are_known() -> None:
    for action in get_args_parser()._actions:
        for name in action.option_strings:
            takes_one = action.nargs != 0
            assert (value([name, "given"], action.option_strings[0]) == "given") is takes_one, name


@pytest.fixture
def mine(cli: Commands) -> Commands:
    (cli.folder / "my_conf/dataset").mkdir(parents=True)
    (cli.folder / "my_conf/dataset/mine.yaml").write_text("_target_: my_package.MyData\nsize: 3\n")
    (cli.folder / "my_package.py").write_text("class MyData:\n    def __init__(self, size: int = 3) -> None: ...\n")
    return cli


@pytest.mark.parametrize("order", range(6))
def test_ones_own_configuration_composes_in_any_order(mine: Commands, order: int) -> None:
    pieces = [["--config-dir", "my_conf"], ["dataset=mine"], ["trusted_modules=[my_package]"]]
    words = [word for piece in list(itertools.permutations(pieces))[order] for word in piece]
    ended = mine.run(*words, "--cfg", "job", "seed=7", before=_import_from(mine.folder))
    assert ended.code == 0, ended.err
    assert "_target_: my_package.MyData" in ended.out
    assert "seed: 7" in ended.out


def test_a_mistake_beside_ones_own_configuration_is_explained(mine: Commands) -> None:
    mine.run("dataset=mine", "--config-dir", "my_conf", "trusted_modules=[my_package]", "strategy.alhpa=1").refused(
        "strategy.alhpa", "did you mean 'alpha'?"
    )
    mine.run("dataset=mine", "--config-dir", "my_conf").refused("'my_package.MyData' is refused", "trusted_modules")
    mine.run("dataset=mine").refused("dataset: there is no preset 'mine'; legal: ", "digits")


def _import_from(folder: Path):  # type: ignore[no-untyped-def]
    import sys

    return lambda: sys.path.insert(0, str(folder))


def test_a_tilde_is_the_home_folder_wherever_a_path_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arranged(["dataset.path=~/a.npz", "~trainer.max_steps", "x=~/a,~/b"]) == [
        *(f"dataset.path={tmp_path}/a.npz", "~trainer.max_steps", "x=~/a,~/b")
    ]
    write_json(tmp_path / "a.json", 3)
    assert read_json("~/a.json") == 3
    np.savez(tmp_path / "a.npz", x_train=np.random.default_rng(0).random((60, 4, 4)), y_train=np.arange(60) % 2)
    NPZ(path="~/a.npz", batch_size=4).setup()
    (tmp_path / "a.txt").write_text("words")
    assert read_text("~/a.txt") == {"train": "words"}
    assert table_file("~/t.json") == tmp_path / "t.json"
