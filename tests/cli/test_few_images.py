"""Stages without a search on data that are too few for the parts of a search."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Commands
from PIL import Image

import lightning_nas as ln
from lightning_nas.cli.main import main
from lightning_nas.errors import ConfigError, DataError
from lightning_nas.spaces.chains.fbnet import FBNetSpace

QUIET = {"latency_table": "none", "callbacks": "none", "logger": "none"}
SPACE = ("search_space.stages=[[16,1,1]]", "search_space.stem=[16,1]", "search_space.head=32")


def folder(root: Path, images: int) -> Path:
    rng = np.random.default_rng(0)
    for number in range(images):
        place = root / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(place / f"{number}.png")
    return root


def space() -> FBNetSpace:
    sizes = {"image_size": 16, "in_channels": 3, "num_classes": 2}
    return FBNetSpace(stages=[(16, 1, 1)], stem=(16, 1), head=32, name="fbnet_small", **sizes)


def data(root: Path, **options: Any) -> ln.ImageFolder:
    return ln.ImageFolder(root=str(root), image_size=16, num_workers=0, batch_size=8, **options)


def test_retraining_needs_no_more_images_than_a_batch_and_a_test(tmp_path: Path) -> None:
    small = folder(tmp_path / "images", 12)  # 2 for the test, 2 for validation, 8 to train on
    with pytest.raises(DataError, match="the weights part has 7 samples, fewer than one batch of 8"):
        data(small).setup()
    chosen = space().validate({"layer_01": "k3_e1"})
    trained = ln.retrain(chosen, data(small), space(), folder=tmp_path / "run", retrain={"epochs": 1}, **QUIET)
    assert trained(torch.rand(1, 3, 16, 16)).shape == (1, 2)
    with pytest.raises(ConfigError, match="the retrain part has 8 samples, fewer than one batch of 10"):
        ln.retrain(
            chosen, data(small), space(), folder=tmp_path / "more", retrain={"epochs": 1, "batch_size": 10}, **QUIET
        )


def test_stages_that_compare_networks_need_all_parts(tmp_path: Path) -> None:
    small = data(folder(tmp_path / "images", 12))
    settings = {"strategy": "random_ws", "experiment": "ranking_hypothesis", "stages": ["ranking"], **QUIET}
    for stages in ({}, settings):
        with pytest.raises(DataError, match="the weights part has 7 samples"):
            ln.Run(tmp_path / "run", data=small, space=space(), **QUIET | stages)


def test_retraining_needs_no_image_for_validation(
    cli: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = folder(tmp_path / "images", 11)
    (tmp_path / "chosen.json").write_text(space().validate({"layer_01": "k3_e1"}).to_json())
    run = tmp_path / "run"
    ended = cli.run(
        *("dataset=image_folder", f"dataset.root={small}", "dataset.image_size=16", "dataset.num_workers=0", *SPACE),
        *(
            "stages=[retrain,export]",
            f"architecture={tmp_path}/chosen.json",
            "retrain.epochs=2",
            "dataset.batch_size=4",
        ),
        *(
            "dataset.batch_size=4",
            "dataset.val_fraction=0.01",
            "strategy=random_ws",
            "search_space=fbnet_small",
            "logger=none",
        ),
        *("latency_table=macs", "export.formats=[py]", f"hydra.run.dir={run}"),
    )
    assert ended.code == 0, ended.err[-2000:]
    result = json.loads((run / "result.json").read_text())
    assert result["test_samples"] == 2
    assert main(["evaluate", str(run)]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(said["test_acc"]) == float(said["reported"]) == result["test_acc"]
