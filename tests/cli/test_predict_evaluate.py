"""The commands that use a trained network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import lightning_nas as ln
from lightning_nas.cli.main import main
from lightning_nas.spaces.chains.fbnet import FBNetSpace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run = ln.Run(
        folder,
        data="digits",
        space="fbnet_small",
        strategy="random",
        stages=["retrain"],
        retrain={"epochs": 1},
        callbacks="none",
        logger="none",
    )
    run.space = FBNetSpace(image_size=8, in_channels=1, num_classes=10, stages=[(16, 1, 1)], stem=(16, 1), head=32)
    run.retrain(run.space.validate({"layer_01": "k3_e1"}))
    run.report()
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    data = ln.Digits()
    data.setup()
    part, folder = data._of(searched=False).parts["test"], tmp_path_factory.mktemp("pictures")
    files = [folder / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        Image.fromarray(part[number][0][0].numpy()).save(file)
    return files


def test_predict_says_class_and_probability(
    folder: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folder), *map(str, pictures)]) == 0
    data = ln.Digits()
    data.setup()
    x, _ = next(iter(data.test_dataloader()))
    with torch.no_grad():
        best = ln.load(folder)(x[:3]).softmax(1).max(1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(file) for file in pictures]
    assert [int(line[1]) for line in lines] == best.indices.tolist()
    assert [line[2] for line in lines] == [f"{share:.2%}" for share in best.values.tolist()]


@pytest.mark.parametrize("overrides", [[], ["dataset=digits"]])
def test_evaluate_gives_the_reported_figure(
    folder: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), *overrides]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    reported = json.loads((folder / "result.json").read_text())["test_acc"]
    assert float(said["test_acc"]) == float(said["reported"]) == reported
    assert said["samples"] == "359"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "RUN"], "predict takes the folder of a run and image files"),
        (["predict", "nowhere", "a.png"], "there is no folder 'nowhere'"),
        (["predict", "RUN", "nothing.png"], "cannot read 'nothing.png'"),
        (["predict", "RUN", "RUN/result.json"], "cannot identify image file"),
        (["evaluate"], "evaluate takes the folder of a run"),
        (["evaluate", "trusted_modules=[mine]"], "evaluate takes the folder of a run"),
        (["predict", "a.png", "trusted_modules=[mine]"], "predict takes the folder of a run and image files"),
        (["evaluate", "RUN", "dataset=digit"], "did you mean 'digits'?"),
        (["evaluate", "RUN", "dataset.flop=1"], "dataset.flop"),
        (["evaluate", "RUN", "retrain.epochs=1"], "evaluate takes dataset=NAME and dataset.KEY=VALUE"),
        (["evaluate", "RUN", "dataset=npz"], "a numpy file"),
        (["evaluate", "RUN", "dataset=text"], "the network was trained on the inputs [1, 8, 8], the data have [20]"),
        (["evaluate", "RUN", "dataset._target_=os.system"], "os.system"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("RUN", str(folder)) for argument in arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
