"""Jobs made of Python objects, and how they travel to other processes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unruly import Counted, answers, request

from lightning_nas.errors import ConfigError
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import one_thread
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def objects(data: ToyData, space: ToySpace | None = None) -> ObjectsJob:
    return ObjectsJob(data, space or ToySpace(), Classification(), Child(epochs=1))


def test_data_are_set_up_once_for_all_children_with_the_same_results(tmp_path: Path) -> None:
    ends = []
    local = LocalEngine(objects(Counted(str(tmp_path))), slots=2)
    for engine in (local, SerialEngine(objects(ToyData()))):
        for trial in range(3):
            engine.submit(request(trial))
        ends.append({trial: (r.status, r.curve) for trial, r in answers(engine, 3).items()})
        engine.close()
    assert ends[0] == ends[1]
    [mark] = tmp_path.iterdir()
    assert mark.name != f"read-{os.getpid()}"


def test_objects_that_cannot_be_pickled_are_refused() -> None:
    data = ToyData()
    data.transform = lambda image: image  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"cannot be sent to another process: .*lambda.*serial engine"):
        LocalEngine(objects(data), slots=1)
    assert SerialEngine(objects(data)).slots == 1


def test_a_class_of_a_notebook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    own = type("OwnSpace", (ToySpace,), {"__module__": "__main__"})
    monkeypatch.setattr(main, "OwnSpace", own, raising=False)
    monkeypatch.delattr(main, "__file__", raising=False)
    with pytest.raises(ConfigError, match="move it into a module"):
        LocalEngine(objects(ToyData(), own()), slots=1)
