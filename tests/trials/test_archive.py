import random
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.local_search import LocalSearch
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.trials import archive as module
from lightning_nas.trials.archive import Archive
from lightning_nas.trials.book import Trial
from lightning_nas.trials.ledger import Ledger

MAKE: dict[str, Any] = {
    "evolution": lambda engine: RegularizedEvolution(
        ToySpace(5), engine=engine, trials=60, population=5, sample=2, ageing=False
    ),
    "local": lambda engine: LocalSearch(ToySpace(4), engine=engine, trials=60),
    "arrival": lambda engine: RegularizedEvolution(
        ToySpace(5), engine=engine, trials=60, population=5, sample=2, ordered=False
    ),
}


def search(kind: str, folder: Path, **options: Any) -> tuple[pl.Trainer, TrialSearch]:
    searching: TrialSearch = MAKE[kind](ToyEngine(noise=0.1))
    with one_thread():
        return fit(searching, None, folder, epochs=1, callbacks=[TrialLogger()], **{"every": 20, **options}), searching


@pytest.fixture(scope="module", params=MAKE)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    trainer, searching = search(request.param, folder)
    return request.param, folder, (fingerprint(trainer, searching, folder), list(searching.history))


def test_a_search_is_the_same_if_hardly_any_trial_is_in_memory(
    tmp_path: Path, whole: tuple[str, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, _, expected = whole
    monkeypatch.setattr(module, "_IN_MEMORY", 1)
    monkeypatch.setattr(module, "_LATEST", 3)
    trainer, searching = search(kind, tmp_path / "run")
    assert (fingerprint(trainer, searching, tmp_path / "run"), list(searching.history)) == expected


@pytest.mark.parametrize("index", ["whole", "removed", "cut", "changed"])
def test_a_resume_reads_the_index_and_does_without_it(
    tmp_path: Path, whole: tuple[str, Path, Any], monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    kind, folder, expected = whole
    early, again = folder / "checkpoints" / "last-1.ckpt", tmp_path / "run"
    again.mkdir()
    for name in ("trials.jsonl", "trials.csv", "metrics.csv", "trials.index"):
        (again / name).write_bytes((folder / name).read_bytes())
    content = (again / "trials.index").read_bytes()
    if index == "removed":
        (again / "trials.index").unlink()
    else:
        changed = {"whole": content, "cut": content[:50], "changed": b"\1" + content[1:]}
        (again / "trials.index").write_bytes(changed[index])
    read, reading = list[int](), Ledger.read
    monkeypatch.setattr(Ledger, "read", lambda ledger, start=0: read.append(start) or reading(ledger, start))
    trainer, searching = search(kind, again, resume=early)
    assert (fingerprint(trainer, searching, again), list(searching.history)) == expected
    assert (again / "trials.index").read_bytes() == content
    assert (0 in read) == (index != "whole")


def test_first_places_are_those_of_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATEST", 7)
    rng, trials, expected = random.Random(0), list[Trial](), dict[int, int]()

    def read(number: int, proposed: int, ended: int) -> Trial:
        assert (proposed, ended) == (2**40 + number, 2**41 + number)
        return trials[number]

    archive = Archive(tmp_path / "trials.index", read)
    for number in range(500):
        form = rng.choice([rng.randrange(2**64), rng.randrange(50), 2**64 - 1])
        trials.append(Trial(number, Architecture("toy", ()), {}, (0.5,), 1.0, None))
        archive.append(trials[-1], proposed=2**40 + number, ended=2**41 + number, form=form)
        archive.rewards.append(number / 7)
        expected.setdefault(form, number)
        if number % 60 == 59:
            position, archive = archive.position(), Archive(tmp_path / "trials.index", read)
            assert archive.restore(position)
    assert all(archive.first(form) == place for form, place in expected.items())
    assert archive.first(51) is None
    assert list(archive) == trials
    assert list(archive.rewards) == [number / 7 for number in range(500)]
