"""One child is trained, looked at and given up."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

from lightning_nas.architecture import Architecture
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import one_thread
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.requests import Request, Response

SPACE = ToySpace()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data() -> SearchData:
    made = ToyData(256)
    made.setup("fit")
    return made


def child(lr: float = 0.1, epochs: int = 4, **options: Any) -> Child:
    return Child(epochs=epochs, optimizer=partial(SGD, lr=lr, momentum=0.9), **options)


def asked(**options: Any) -> Request:
    return Request(**{"trial": 3, "attempt": 2, "architecture": SPACE.best, "seed": 7} | options)


def work(made: Child, request: Request, data: SearchData) -> Response:
    return made.work(request, SPACE, data, Classification())


def test_the_curve_is_the_validation_accuracy_after_each_epoch(data: SearchData, tmp_path: Path) -> None:
    response = work(child(), asked(keep=str(tmp_path / "weights" / "3.pt")), data)
    assert (response.trial, response.attempt, response.status, len(response.curve)) == (3, 2, "finished", 4)
    network = SPACE.network(SPACE.best)
    network.load_state_dict(torch.load(tmp_path / "weights" / "3.pt", weights_only=True))
    with torch.no_grad():
        hits = [(network.eval()(x).argmax(-1) == y).float() for x, y in data.evaluation_loader("val")]
    assert response.curve[-1] == pytest.approx(torch.cat(hits).mean().item())
    assert response.curve[-1] > 0.9


def test_it_is_a_function_of_the_request(data: SearchData) -> None:
    curves = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(curves))
        curves.append(work(child(), asked(seed=seed), data).curve)
    assert curves[0] == curves[1] != curves[2]


def test_a_child_that_does_not_improve_ends_early(data: SearchData) -> None:
    whole = work(child(epochs=8), asked(), data).curve
    best = whole.index(max(whole[:6]))
    assert best < 5, "the toy learns quickly"
    assert (
        work(child(epochs=8, patience=2), asked(), data).curve
        == whole[: next(n for n in range(1, 9) if n - 1 - whole[:n].index(max(whole[:n])) >= 2)]
    )


def test_a_child_below_the_bar_of_its_epoch_ends_there(data: SearchData) -> None:
    worse = asked(architecture=SPACE.validate({"layer_1": "blur", "layer_2": "blur"}))
    for bars, epochs in (((), 4), ((0.0, 0.0), 4), ((0.0, 0.9), 2), ((0.9,), 1)):
        request = Request(**vars(worse) | {"bars": bars})
        assert len(work(child(), request, data).curve) == epochs
    assert len(work(child(), asked(bars=(0.2, 0.2)), data).curve) == 4


@pytest.mark.parametrize(
    ("made", "request_", "says"),
    [
        (child(lr=1e30), asked(), "NumericalError"),
        (child(), asked(architecture=Architecture("another", ())), "InvalidArchitecture"),
    ],
)
def test_a_child_that_fails_says_why_in_one_line(made: Child, request_: Request, says: str, data: SearchData) -> None:
    response = work(made, request_, data)
    assert (response.status, response.curve) == ("failed", ())
    assert response.reason
    assert response.reason.startswith(says)
    assert "\n" not in response.reason


def test_targets_of_a_job_are_held_against_the_allow_list() -> None:
    with pytest.raises(ConfigError, match=r"os\.system"):
        SerialEngine(ConfiguredJob({"dataset": {"_target_": "os.system", "command": "true"}, "seed": 0}))
