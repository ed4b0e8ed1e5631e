"""Whole runs of segmentation, from the search to the saved network and its figures."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Commands, rows
from PIL import Image
from sklearn.metrics import jaccard_score

import lightning_nas as ln
from lightning_nas.cli.main import main
from lightning_nas.experiment.predictions import palette
from lightning_nas.tasks.segmentation import resized

SMALL = (
    *("strategy=random", "search_space=dpc_small", "logger=none", "latency_table=macs", "engine=serial"),
    *("strategy.trials=2", "child.epochs=1", "retrain.epochs=1", "dataset.scenes=60", "dataset.image_size=[16,24]"),
    *("search_space.channels=8", "search_space.branches=3", "dataset.batch_size=4"),
)


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def test_a_run_has_the_figures_of_its_masks(cli: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli.folder / "run"
    ended = cli.run(
        *SMALL, f"hydra.run.dir={folder}", "stages=[search,retrain,export]", "export.formats=[py,safetensors]"
    )
    assert ended.code == 0, ended.err[-3000:]
    found = result(folder)
    assert {key for key in found if key.startswith("test_")} == {"test_miou", "test_pixel_acc", "test_samples"}
    assert not {"test_acc", "confusion", "baseline_acc", "majority_share"} & set(found)
    assert [entry["name"] for entry in found["classes"]] == ["background", *map(str, range(10))]
    page = (folder / "report.html").read_text().partition("<h2>Configuration")[0]
    for words in ("mIoU", "by the most frequent class everywhere", "Test pixels"):
        assert words in page
    assert "ccuracy of" not in page

    network = ln.load(folder)  # the figures are those of the saved network, by scikit-learn
    data = ln.DigitScenes(scenes=60, image_size=(16, 24), batch_size=4)
    data.setup()
    with torch.no_grad():
        pairs = [(resized(network(x), y.shape[1:]).argmax(1), y) for x, y in data.test_dataloader()]
    said, true = (torch.cat(parts).flatten().numpy() for parts in zip(*pairs, strict=True))
    labels = sorted({*said.tolist(), *true.tolist()})
    ious = jaccard_score(true, said, average=None, labels=labels)
    assert found["test_miou"] == pytest.approx(ious.mean(), abs=1e-5)
    assert found["test_pixel_acc"] == pytest.approx((said == true).mean(), abs=1e-6)
    reported = [entry["iou"] for entry in found["classes"]]
    assert [reported[label] for label in labels] == pytest.approx(ious.tolist(), abs=1e-6)
    assert all(reported[label] is None for label in range(11) if label not in labels)
    everywhere = jaccard_score(true, np.zeros_like(true), average=None, labels=sorted({0, *true.tolist()}))
    assert found["majority_miou"] == pytest.approx(everywhere.mean(), abs=1e-6)
    assert found["majority_pixel_acc"] == pytest.approx((true == 0).mean(), abs=1e-6)

    x, y = data.looked_at("test", 6)  # the picture: images, masks and answers below each other
    tiles = np.asarray(Image.open(folder / "predictions.png"))
    assert tiles.shape == (3 * 96 + 2 * 4, 6 * 144 + 5 * 4, 3)
    with torch.no_grad():
        answers = resized(network(x), y.shape[1:]).argmax(1)
    colours = palette(11, 0).numpy()
    for row, shown in enumerate((y, answers), start=1):
        for column in range(6):
            tile = tiles[row * 100 : row * 100 + 96 : 6, column * 148 : column * 148 + 144 : 6]
            assert (tile == colours[shown[column].numpy()]).all()
    assert "data:image/png;base64," in page

    assert main(["evaluate", str(folder)]) == 0
    told = dict(words for line in capsys.readouterr().out.splitlines() if len(words := line.split()) == 2)
    assert float(told["test_miou"]) == float(told["reported"]) == found["test_miou"]

    Image.fromarray(data._images.parts["test"].images[0, 0].numpy()).save(cli.folder / "scene.png")
    assert main(["predict", str(folder), str(cli.folder / "scene.png")]) == 0
    words = capsys.readouterr().out.split()[1:]
    assert sum(float(word.rstrip("%")) for word in words[1::2]) == pytest.approx(100, abs=0.1)


def test_a_stopped_run_ends_as_if_it_was_not_stopped(cli: Commands) -> None:
    whole, folder = cli.folder / "whole", cli.folder / "run"
    options = (*SMALL, "strategy.trials=4", "stages=[search]")
    assert cli.run(*options, f"hydra.run.dir={whole}").code == 0
    child = cli.fork(*options, f"hydra.run.dir={folder}")
    child.when(lambda: rows(folder / "trials.csv") > 1)
    child.kill(signal.SIGTERM)
    assert child.wait().code == 143
    ended = cli.run(*options, f"hydra.run.dir={folder}", "ckpt_path=last")
    assert ended.code == 0, ended.err[-3000:]
    kept = []
    for place in (whole, folder):
        with (place / "trials.csv").open() as file:
            kept.append([(row["key"], row["reward"]) for row in csv.DictReader(file)])
    assert kept[0] == kept[1]
    assert (folder / "architecture.json").read_text() == (whole / "architecture.json").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("search_space=nasbench201_small", "dataset=digit_scenes"),
            "gives one output for a whole image, and the data",
        ),
        (
            ("search_space=dpc_small", "dataset=digits"),
            "gives a class for each pixel, and the data have one class a sample",
        ),
        (
            ("dataset=digit_scenes", "search_space=dpc_small", "task=classification"),
            "DigitScenes has one class a pixel",
        ),
        (
            ("dataset=digits", "task=segmentation"),
            "the task needs one class a pixel (task=segmentation), and Digits has",
        ),
        ((*SMALL, "task.class_weights=[1,2]"), "task.class_weights has 2 values, but there are 11 classes"),
    ],
)
def test_a_wrong_pair_is_one_line(cli: Commands, options: tuple[str, ...], words: str) -> None:
    cli.run("strategy=random", "logger=none", *options, f"hydra.run.dir={cli.folder / 'run'}").refused(words)
