"""The task of the page docs/extending/task.md: the page's own code, proven by the suite and searched with."""

import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from digit_targets import numbers
from sklearn.metrics import mean_absolute_error

import lightning_nas as ln
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.tasks.base import Task
from lightning_nas.testing.tasks import TaskCase

PAGE = (Path(__file__).parents[2] / "docs" / "extending" / "task.md").read_text(encoding="utf-8")
CODE = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
PROVEN = types.ModuleType("page_on_tasks")
sys.modules[PROVEN.__name__] = PROVEN  # so that its classes can be pickled
for part in CODE:
    exec(part, PROVEN.__dict__)

TestPage = PROVEN.TestRobust


def test_the_page_has_a_short_class_and_its_proof() -> None:
    assert len(CODE) == 2
    assert len(CODE[0].splitlines()) <= 45
    assert issubclass(TestPage, TaskCase)


def test_the_page_names_every_member_that_a_task_may_define() -> None:
    for member in ("loss", "metrics", "score", "reward", "unit_metrics", "imitation_loss"):
        assert hasattr(Task, member)
        assert f"`{member}(" in PAGE


def test_a_run_has_the_figures_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = numbers(200)
    run = ln.Run(
        tmp_path / "run",
        data=(x, y),
        space="fbnet_small",
        strategy="random",
        task=PROVEN.Robust(0.5),
        stages=["retrain"],
        retrain={"epochs": 1},
        callbacks="none",
        logger="none",
    )
    run.space = FBNetSpace(image_size=8, in_channels=1, num_classes=3, stages=[(16, 1, 1)], stem=(16, 1), head=32)
    run.retrain(run.space.validate({"layer_01": "k3_e1"}))
    run.report()
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    network = ln.load(tmp_path / "run")
    with torch.no_grad():
        pairs = [(network(images), target) for images, target in run.data.test_dataloader()]
    output, target = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert found["test_mae"] == pytest.approx(mean_absolute_error(target, output), rel=1e-5)
    assert [entry["mae"] for entry in found["outputs"]] == pytest.approx(
        mean_absolute_error(target, output, multioutput="raw_values").tolist(), rel=1e-5
    )
    assert "test_acc" not in found
    assert "accuracy" not in capsys.readouterr().out
