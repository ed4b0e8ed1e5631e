"""Whole runs of regression and of several labels, from the search to the saved network and its figures."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Commands, rows
from digit_targets import TASKS, written
from PIL import Image
from sklearn.metrics import average_precision_score, r2_score

import lightning_nas as ln
from lightning_nas.cli.main import main

SPACE = ("search_space=fbnet_small", *(text for text in TINY if text.startswith("search_space")))
QUICK = ("trainer.max_epochs=2", "retrain.epochs=1", "logger=none", "latency_table=macs", "dataset.batch_size=16")
STRATEGIES = {
    "fbnet": (*(text for text in TINY if "epochs" not in text or "rank_check" in text or "warmup" in text), *QUICK),
    "spos": ("strategy=spos", "debug=fast", *SPACE, *QUICK, "strategy.generations=1", "strategy.population=3"),
    "random": ("strategy=random", "engine=serial", "strategy.trials=2", "child.epochs=1", *SPACE, *QUICK[1:]),
}
FIGURES = {"regression": ["test_r2", "test_mae", "test_mse"], "multilabel": ["test_map", "test_f1"]}
OF_CLASSES = ("test_acc", "balanced_acc", "majority_share", "baseline_acc", "classes", "confusion", "inherited_acc")
WORDS = ("accuracy", "Accuracy", "majority", "Confusion", "confusion", "largest class", "Recall")


def arguments(folder: Path, task: str, strategy: str) -> list[str]:
    file = folder.parent / f"{task}.npz"
    if not file.exists():
        written(file, task)
    named = [text for text in STRATEGIES[strategy] if text != "logger=none"]
    return [
        *dict.fromkeys(named),
        "logger=none",
        "dataset=npz",
        f"dataset.path={file}",
        f"task={task}",
        f"hydra.run.dir={folder}",
    ]


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_run_has_the_figures_of_its_task_and_no_others(
    cli: Commands, task: str, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli.folder / "run"
    ended = cli.run(
        *arguments(folder, task, strategy), "stages=[search,retrain,export]", "export.formats=[py,safetensors]"
    )
    assert ended.code == 0, ended.err[-3000:]
    found, name = result(folder), FIGURES[task][0]
    assert {key for key in found if key.startswith("test_")} == {*FIGURES[task], "test_samples"}
    assert not found.keys() & set(OF_CLASSES)
    assert (len(found["outputs"]), found["test_samples"]) == (3, 60)
    texts = [ended.out, *(file.read_text() for file in (folder / "report.html", folder / "export" / "README.md"))]
    page = texts[1].partition("<h2>Configuration")[0]
    assert not [word for word in WORDS for text in (texts[0], page, texts[2]) if word in text]

    network = ln.load(folder)  # the figure is that of the saved network, by scikit-learn
    x, y = TASKS[task](300)
    data = ln.ArrayData(x, y, seed=0, batch_size=16)
    data.expect({"regression": "numbers", "multilabel": "labels"}[task])
    data.setup()
    with torch.no_grad():
        pairs = [(network(images), target) for images, target in data.test_dataloader()]
    output, target = (torch.cat(parts).double().numpy() for parts in zip(*pairs, strict=True))
    wanted = r2_score(target, output) if task == "regression" else average_precision_score(target, output)
    assert found[name] == pytest.approx(wanted, abs=1e-5)

    assert main(["evaluate", str(folder)]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(said[name]) == float(said["reported"]) == found[name]
    assert all(float(said[key]) == found[key] for key in FIGURES[task])

    Image.fromarray(x[0]).save(cli.folder / "digit.png")
    assert main(["predict", str(folder), str(cli.folder / "digit.png")]) == 0
    words = capsys.readouterr().out.split()[1:]
    with torch.no_grad():
        raw = network(
            torch.from_numpy((x[:1, None] / 255 - data.normalisation[0][0]) / data.normalisation[1][0]).float()
        )
    if task == "regression":
        assert [float(word) for word in words[1::2]] == pytest.approx(data.scale.restored(raw)[0].tolist(), rel=1e-4)
    else:
        assert [float(word[:-1]) / 100 for word in words[1::2]] == pytest.approx(raw.sigmoid()[0].tolist(), abs=1e-3)
    assert words[::2] == ["0", "1", "2"]


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_ends_as_if_it_was_not_stopped(cli: Commands, task: str) -> None:
    whole, folder = cli.folder / "whole", cli.folder / "run"
    assert cli.run(*arguments(whole, task, "fbnet")).code == 0
    child = cli.fork(*arguments(folder, task, "fbnet"))
    child.when(lambda: rows(folder / "metrics.csv") > 3)
    child.kill(signal.SIGTERM)
    assert child.wait().code == 143
    assert not (folder / "result.json").exists()
    ended = cli.run(*arguments(folder, task, "fbnet"), "ckpt_path=last")
    assert ended.code == 0, ended.err[-3000:]
    for name in ("metrics.csv", "architectures.csv", "rank_points.csv", "architecture.json", "retrain/metrics.csv"):
        assert (folder / name).read_text() == (whole / name).read_text(), name
    assert {key: result(folder)[key] for key in (*FIGURES[task], "outputs")} == {
        key: result(whole)[key] for key in (*FIGURES[task], "outputs")
    }
    weights = [ln.load(place).state_dict() for place in (folder, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_children_in_processes_of_their_own_are_rewarded_as_here(cli: Commands) -> None:
    rewards = []
    for engine in ("serial", "local"):
        folder = cli.folder / engine
        asked = [text for text in arguments(folder, "regression", "random") if text != "engine=serial"]
        ended = cli.run(*asked, f"engine={engine}", "stages=[search]")
        assert ended.code == 0, ended.err[-3000:]
        with (folder / "trials.csv").open() as file:
            rewards.append([row["reward"] for row in csv.DictReader(file)])
    assert rewards[0] == rewards[1]
    assert all(0 < float(reward) <= 1 for reward in rewards[0])


@pytest.mark.parametrize(
    ("task", "y", "words"),
    [
        ("classification", np.linspace(0, 1, 80), "numbers need task=regression"),
        ("multilabel", np.arange(80) % 10, "of one class a sample task=classification"),
        ("regression", np.full(80, 3.0), "target 0 is 3 in every training sample"),
        ("regression", np.full(80, np.nan), "NaN or infinite, first in sample 0"),
    ],
)
def test_a_wrong_pair_is_one_line(cli: Commands, task: str, y: np.ndarray, words: str) -> None:
    file = cli.folder / "wrong.npz"
    np.savez(file, x_train=TASKS["regression"](80)[0], y_train=y)
    cli.run("dataset=npz", f"dataset.path={file}", f"task={task}", f"hydra.run.dir={cli.folder / 'run'}").refused(words)


def test_data_of_classes_alone_are_refused(cli: Commands) -> None:
    said = cli.run("dataset=digits", "task=regression", f"hydra.run.dir={cli.folder / 'run'}")
    said.refused("the task needs one or many numbers a sample (task=regression), and Digits has one class a sample")
