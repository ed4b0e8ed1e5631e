"""EAS (arXiv:1707.04873) with children that are trained: they inherit, and a search that was killed goes on."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.errors import CheckpointError
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.strategies.multi_trial.eas import EAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.multi_trial import BrokenDownError
from lightning_nas.testing.toys import ToyData
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.requests import Request, Response


def space(**options: Any) -> EASSpace:
    sizes = {"image_size": 4, "in_channels": 1, "num_classes": 4, "filters": (2, 4, 6), "units": (4, 8)}
    more = {"kernels": (1, 3), "pools": (2,), "start": (2, 4), "longest": 3, "dropout": (0.0, 0.0)}
    return EASSpace("small", **sizes | more | options)


class Watched(Child):
    """Looks at every network before it is trained."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.begun: list[tuple[float, torch.Tensor]] = []

    def fit(self, space: Any, architecture: Any, data: Any, task: Any, *rest: Any, make: Any, **more: Any) -> nn.Module:
        def begin() -> nn.Module:
            network: nn.Module = make()
            self.begun.append((look(network, data), logits(network)))
            return network.train()

        return super().fit(space, architecture, data, task, *rest, make=begin, **more)


def look(network: nn.Module, data: Any) -> float:
    return Classification().evaluate(network, data.evaluation_loader("val", searched=True), 4)


def logits(network: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, 8 * 16).view(8, 1, 4, 4)
    with torch.no_grad():
        result: torch.Tensor = network.eval()(x)
    return result


def data() -> ToyData:
    made = ToyData(160, val_fraction=0.25)
    made.setup("fit")
    return made


def engine(child: Child, asked: list[Request], after: int | None = None) -> SerialEngine:
    images = data()

    def work(request: Request) -> Response:
        if len(asked) == after:
            raise BrokenDownError
        asked.append(request)
        return replace(child.work(request, space(), images, Classification()), seconds=1.0)

    return SerialEngine({}, worker=work)


def search(folder: Path, make: Callable[[], SerialEngine], resume: Path | None = None, **options: Any) -> Any:
    how = {"networks": 3, "wider": 1, "deeper": 1, "restart_every": 1, "trials": 7, "embedding": 4, "hidden": 6}
    module = EAS(space(), Classification(), engine=make(), optimizer=partial(Adam, lr=0.01), **how | options)
    with one_thread():
        trainer = fit(module, None, folder, epochs=1, every=3, resume=resume, callbacks=[TrialLogger()])
    return module, fingerprint(trainer, module, folder)


def child(kind: type[Child] = Child, **options: Any) -> Any:
    return kind(**{"epochs": 1, "optimizer": partial(SGD, lr=0.1)} | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, str], Path, list[Request], Watched]:
    folder, asked, watched = tmp_path_factory.mktemp("whole"), list[Request](), child(Watched)
    module, ended = search(folder, lambda: engine(watched, asked))
    return module, ended, folder, asked, watched


def test_a_child_starts_with_the_function_of_its_parent(tmp_path: Path) -> None:
    """Held beside the parent's weights at that moment, which may be gone by the end."""
    watched, images, apart = child(Watched), data(), []

    def work(request: Request) -> Response:
        response = watched.work(request, space(), images, Classification())
        assert response.status == "finished", response.reason
        if (given := request.inherits) is not None:
            parent = space().network(given.architecture)
            parent.load_state_dict(torch.load(given.weights, weights_only=True))
            accuracy, outputs = watched.begun[-1]
            torch.testing.assert_close(outputs, logits(parent), atol=1e-5, rtol=1e-5)
            apart.append(abs(accuracy - look(parent, images)))
        return response

    module, _ = search(tmp_path, lambda: SerialEngine({}, worker=work))
    assert len(apart) >= 4
    assert max(apart) <= 1e-5
    grown = {trial.architecture for trial, _ in module.history}
    assert len(grown) > 3


def test_children_have_the_start_of_their_episode_as_parent_and_grow(whole: Any) -> None:
    module, _, _, asked, _ = whole
    by_number = {trial.number: trial for trial, _ in module.history}
    assert by_number[0].architecture == space().start
    assert asked[0].inherits is None
    for request in asked[1:]:
        parent = by_number[by_number[request.trial].info["parent"]]
        assert request.inherits is not None
        assert request.inherits.architecture == parent.architecture
        assert Path(request.inherits.weights).stem == str(parent.number)
        before, after = (len(space().tokens(a)) for a in (parent.architecture, request.architecture))
        assert after == before + 1 or space().can_deepen(parent.architecture) == (0, 0)


def test_only_weights_that_may_still_be_inherited_are_left(whole: Any) -> None:
    module, _, folder, _, _ = whole
    left = {int(file.stem) for file in (folder / "children").glob("*.pt")}
    best = max(module.history, key=lambda entry: entry[1])[0].number
    assert left == {module.history[module._start][0].number, best}
    assert len(module.history) == 7


@pytest.mark.parametrize("after", [2, 5])
def test_a_killed_search_with_real_children_resumes_exactly(whole: Any, after: int, tmp_path: Path) -> None:
    _, expected, folder, asked, _ = whole
    before, later = list[Request](), list[Request]()
    with pytest.raises(BrokenDownError):
        search(tmp_path, lambda: engine(child(), before, after))
    for table in tmp_path.glob("*.csv") if after < 4 else []:
        table.unlink()
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    _, ended = search(tmp_path, lambda: engine(child(), later), checkpoint if checkpoint.exists() else None)
    assert ended == expected
    assert [request.trial for request in before + later] == [request.trial for request in asked]
    for name in (file.name for file in (folder / "children").glob("*.pt")):
        ours, theirs = (torch.load(f / "children" / name, weights_only=True) for f in (tmp_path, folder))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_where_the_start_failed_its_children_begin_anew(tmp_path: Path) -> None:
    asked, images, trained = list[Request](), data(), child()

    def work(request: Request) -> Response:
        asked.append(request)
        if request.trial == 0:
            return Response(0, request.attempt, "failed", reason="no memory")
        return trained.work(request, space(), images, Classification())

    search(tmp_path, lambda: SerialEngine({}, worker=work), networks=2, trials=5)
    assert all(request.inherits is None for request in asked[:3])
    assert all(request.inherits is not None for request in asked[3:])


@pytest.mark.parametrize("how", ["removed", "cut", "foreign"])
def test_damaged_weights_of_a_parent_end_the_search_with_one_line(tmp_path: Path, how: str) -> None:
    asked = list[Request]()

    def work(request: Request) -> Response:
        asked.append(request)
        response = child().work(request, space(), data(), Classification())
        file = Path(str(request.keep))
        if how == "removed":
            file.unlink()
        elif how == "cut":
            file.write_bytes(file.read_bytes()[:-100])
        else:
            torch.save({}, file)
        return response

    with pytest.raises(CheckpointError, match=r"trial 1 inherits the weights of trial 0: .*0\.pt") as caught:
        search(tmp_path, lambda: SerialEngine({}, worker=work))
    assert str(caught.value).isprintable()
    assert len(asked) == 1, "no child was trained in vain"
