import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lightning_nas.errors import InputError
from lightning_nas.latency.__main__ import main
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.chains.fbnet import FBNetSpace

ROOT = Path(__file__).parents[2]

SPACE = {
    "_target_": "lightning_nas.spaces.chains.fbnet.FBNetSpace",
    "name": "toy",
    "image_size": 8,
    "in_channels": 1,
    "num_classes": 10,
    "head": 16,
    "stem": [8, 1],
    "stages": [[8, 2, 1], [16, 1, 2]],
}
MEASURE = {"device": "cpu", "threads": 1, "batch_size": 1, "dtype": "float32", "memory_format": "contiguous"}
CONFIG: dict[str, Any] = {
    "search_space": SPACE,
    "measure": MEASURE | {"min_run_time": 1e-5},
    "out": None,
    "samples": 2,
    "seed": 0,
    "trusted_modules": [],
}


def test_the_command_writes_a_valid_table_and_prints_its_accuracy(
    tmp_path: Path, space: FBNetSpace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(OmegaConf.create(CONFIG))
    (file,) = tmp_path.iterdir()
    assert file.name == f"latency_toy_{space.digest}.json"
    assert LatencyTable.load(file).check(space)
    printed = capsys.readouterr().out
    assert f"latency_table.path={file.name}" in printed
    assert all(word in printed for word in ("Kendall tau", "mean relative error", "constant", ", 1 thread"))
    assert any(line.startswith(("steady: ", "not steady: ")) for line in printed.splitlines())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"samples": 1}, "samples"),
        ({"samples": -1}, "samples"),
        ({"samples": "many"}, "samples"),
        ({"seed": 0.5}, "seed"),
        ({"out": 3}, "out"),
        ({"measure": MEASURE | {"threads": 0}}, "measure.threads"),
        ({"measure": MEASURE | {"dtype": "int8"}}, "measure.dtype"),
        ({"measure": MEASURE | {"cores": 1}}, "measure.cores"),
        ({"search_space": {"_target_": "os.mkdir", "path": "canary"}}, "os.mkdir"),
        ({"search_space": SPACE | {"head": {"_target_": "os.mkdir", "path": "canary"}}}, "search_space.head"),
        ({"search_space": SPACE | {"stem": [[{"_target_": "os.mkdir", "path": "canary"}]]}}, "search_space.stem"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        main(OmegaConf.create(CONFIG | change))
    assert not list(tmp_path.iterdir())


def test_sizes_that_the_data_set_leaves_open_are_read_from_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = np.zeros((700, 12, 12, 3), dtype=np.uint8), np.arange(700) % 7
    images += labels[:, None, None, None].astype(np.uint8)
    np.savez("mine.npz", x_train=images, y_train=labels)
    with initialize_config_module("lightning_nas.conf", version_base="1.3"):
        given = ["dataset=npz", "dataset.path=mine.npz", "measure.min_run_time=1e-5", "samples=0", "out=table.json"]
        config = OmegaConf.masked_copy(compose("latency", given), [*CONFIG, "dataset"])
    main(config)
    space = instantiate(config.search_space)
    assert (space.input_shape, space.num_classes) == ((3, 12, 12), 7)
    assert LatencyTable.load("table.json").check(space)


def test_a_table_of_other_image_sizes_says_what_to_measure(space: FBNetSpace, table: LatencyTable) -> None:
    other = FBNetSpace("toy", image_size=16, in_channels=3, num_classes=7, stem=(8, 1), stages=[(8, 2, 1)], head=16)
    with pytest.raises(InputError, match=r"3x16x16 and 7 classes; measure .* dataset=\.\.\. and search_space"):
        table.check(other)


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_command_runs_from_any_folder(tmp_path: Path) -> None:
    done = run("-m", "lightning_nas.latency", "out=table.json", "samples=2", "measure.min_run_time=1e-4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["table.json"]
    assert LatencyTable.load(tmp_path / "table.json").space == "fbnet_small"


def test_printing_the_configuration_imports_no_torch(tmp_path: Path) -> None:
    done = run("-X", "importtime", "-m", "lightning_nas.latency", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "min_run_time" in done.stdout
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "lightning_nas.latency" in modules
    assert "torch" not in modules
