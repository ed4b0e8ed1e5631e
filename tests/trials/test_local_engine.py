import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import torch
from unruly import answers, at_work, gone, job, request

from lightning_nas.errors import ConfigError
from lightning_nas.processes import cores
from lightning_nas.testing.training import one_thread
from lightning_nas.trials.book import Proposal, Trials
from lightning_nas.trials.engines import process, resources
from lightning_nas.trials.engines.local import LocalEngine
from lightning_nas.trials.engines.resources import devices_of, slots_of
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.ledger import Ledger

HELPERS = Path(__file__).parents[1] / "helpers"
Make = Callable[..., LocalEngine]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Engines on children with deeds by trial, closed in the end; marks are in tmp_path."""
    made: list[LocalEngine] = []

    def engine(deeds: dict[int, str] | None = None, *, data: str | None = None, **options: object) -> LocalEngine:
        what = job(tmp_path, deeds, **({"data": data} if data else {}))
        made.append(LocalEngine(what, **{"slots": 2} | options))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_it_equals_the_serial_engine_to_the_bit(make: Make, tmp_path: Path) -> None:
    local, serial = make(), SerialEngine(job(tmp_path / "serial"))
    for engine in (local, serial):
        for trial in range(3):
            engine.submit(request(trial))
    ends = [{trial: (r.status, r.curve) for trial, r in answers(engine, 3).items()} for engine in (local, serial)]
    assert ends[0] == ends[1]
    assert len({curve for _, curve in ends[0].values()}) == 3


def test_every_death_of_a_child_is_a_response_with_its_reason(make: Make) -> None:
    deeds = {0: "is killed", 1: "leaves", 2: "raises", 3: "diverges", 4: "is hungry", 5: "sleeps"}
    engine = make(deeds, minutes=10 / 60, memory_gb=8)
    for trial in (*deeds, 6):
        engine.submit(request(trial))
    ends = answers(engine, 7)
    said = {trial: (response.status, response.reason) for trial, response in ends.items()}
    assert said[0] == ("lost", "its process was killed by SIGKILL")
    assert said[1] == ("lost", "its process ended with exit code 7")
    assert said[2] == ("failed", "RuntimeError: the shapes do not fit")
    assert said[5] == ("failed", "took more than 0.166667 minutes")
    assert said[6] == ("finished", None)
    for trial, word in ((3, "nan"), (4, "memory")):
        status, reason = said[trial]
        assert status == "failed"
        assert word in str(reason).lower()
        assert str(reason).isprintable()
    assert all(response.curve == () for trial, response in ends.items() if trial != 6)


def test_a_child_without_data_is_lost_with_the_reason(make: Make) -> None:
    engine = make(data="unruly.Missing")
    engine.submit(request(0))
    response = answers(engine, 1)[0]
    assert (response.status, response.reason) == ("lost", "DataError: no such folder")


def test_a_killed_child_is_repeated_with_the_same_result(make: Make, tmp_path: Path) -> None:
    ends = []
    for deed in ("is killed once", ""):
        path = tmp_path / f"{deed}.jsonl"
        book = Trials(make({0: deed}), Ledger(path))
        book.propose(Proposal(request(0).architecture))
        trial = book.next()
        assert trial is not None
        ends.append(trial.curve)
        book.close()
    assert ends[0] == ends[1] != ()
    events = [json.loads(line) for line in (tmp_path / "is killed once.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["proposed", "started", "lost", "started", "finished"]
    assert events[-1]["attempt"] == 2


def test_no_more_run_at_once_than_there_are_slots_and_the_rest_waits(make: Make, tmp_path: Path) -> None:
    engine = make(dict.fromkeys(range(4), "waits"), slots=2)
    assert engine.slots == 2
    for trial in range(4):
        engine.submit(request(trial))
    at_work(tmp_path, 0)
    at_work(tmp_path, 1)
    assert engine.finished(0.3) == []
    assert not (tmp_path / "2-1").exists()
    (tmp_path / "go").touch()
    assert {response.status for response in answers(engine, 4).values()} == {"finished"}


def test_closing_ends_all_children(make: Make, tmp_path: Path) -> None:
    engine = make({0: "sleeps", 1: "holds the lock"})
    for trial in range(3):
        engine.submit(request(trial))
    pids = [at_work(tmp_path, trial) for trial in (0, 1)]
    began = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - began < 60, "children sleep for longer"
    assert all(gone(pid) for pid in pids)
    assert engine.finished(0) == []
    assert not (tmp_path / "2-1").exists()


def test_children_go_on_when_their_job_server_dies(make: Make, tmp_path: Path) -> None:
    engine = make({0: "waits", 1: "holds the lock"}, minutes=3)
    for trial in (0, 1):
        engine.submit(request(trial))
    pids = [at_work(tmp_path, trial) for trial in (0, 1)]
    [server] = {parent(pid) for pid in pids}
    fork_server = parent(server)
    os.kill(server, signal.SIGKILL)
    os.kill(fork_server, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert answers(engine, 1)[0].status == "finished"
    engine.submit(request(2))
    assert answers(engine, 1)[2].status == "finished"
    engine.close()
    assert all(gone(pid) for pid in pids)


def test_a_process_that_cannot_be_started_is_lost_with_the_reason(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    engine = make()
    monkeypatch.setattr(process._CONTEXT.Process, "start", refuses)
    engine.submit(request(0))
    response = answers(engine, 1)[0]
    assert response.status == "lost"
    assert "Resource temporarily unavailable" in str(response.reason)


SEARCH = """
import json, sys, time
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.trials.engines.local import LocalEngine
from unruly import request
engine = LocalEngine(ConfiguredJob(json.loads(sys.argv[1])), slots=2)
engine.submit(request(0))
engine.submit(request(1))
time.sleep(600)
"""


def test_no_child_outlives_a_search_that_is_killed(tmp_path: Path) -> None:
    what = json.dumps(job(tmp_path, {0: "sleeps", 1: "holds the lock"}).content)
    path = {"PYTHONPATH": os.pathsep.join([str(HELPERS), *filter(None, sys.path)])}
    search = subprocess.Popen([sys.executable, "-c", SEARCH, what], env=os.environ | path)
    try:
        pids = [at_work(tmp_path, trial) for trial in (0, 1)]
    finally:
        search.kill()
        search.wait(120)
    assert all(gone(pid) for pid in pids)


def test_resources_the_machine_has_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots_of(None, threads=1, gpus=0) == 8
    assert slots_of(None, threads=3, gpus=0) == 2
    assert slots_of(20, threads=1, gpus=0) == 20  # more children than cores is one's own affair
    assert [slots_of(None, threads=1, gpus=gpus) for gpus in (2, 1, 0.5, 0.3, 0.1)] == [1, 2, 4, 6, 8]
    for asked, word in (
        ({"wanted": None, "threads": 9, "gpus": 0}, "engine.threads=9"),
        ({"wanted": None, "threads": 1, "gpus": 3}, "engine.gpus=3"),
        ({"wanted": 3, "threads": 1, "gpus": 1}, "room for 2"),
        ({"wanted": 5, "threads": 1, "gpus": 0.5}, "room for 4"),
        ({"wanted": None, "threads": 1, "gpus": 1.5}, "whole number"),
    ):
        with pytest.raises(ConfigError, match=word):
            slots_of(**asked)


def test_each_slot_has_gpus_of_those_the_search_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [devices_of(slot, 1) for slot in range(4)] == ["0", "1", "2", "3"]
    assert [devices_of(slot, 2) for slot in range(2)] == ["0,1", "2,3"]
    assert [devices_of(slot, 0.3) for slot in range(6)] == ["0", "0", "0", "1", "1", "1"]
    assert devices_of(0, 0) == ""  # none, and not all
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-abc,7,2")
    assert [devices_of(slot, 1) for slot in range(4)] == ["5", "GPU-abc", "7", "2"]


def test_an_engine_without_a_core_to_run_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="legal: at most as many"):
        LocalEngine(job(tmp_path), threads=cores() + 1)
    with pytest.raises(ConfigError, match=f"engine.slots={33 * cores()}: this machine has {cores()} cores"):
        LocalEngine(job(tmp_path), slots=33 * cores())


def test_stopped_processes_are_lost_and_replaced(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make({0: "waits", 1: "waits"}, slots=2, silent_seconds=4)
    for trial in (0, 1):
        engine.submit(request(trial))
    pids = [at_work(tmp_path, trial) for trial in (0, 1)]
    os.kill(pids[0], signal.SIGSTOP)
    response = answers(engine, 1)[0]
    assert (response.status, response.reason) == ("lost", "no sign of life for 4 seconds")
    assert gone(pids[0]), "a stopped child is killed, too"

    monkeypatch.setattr(process, "_STARTED", 2.0)
    server = parent(pids[1])
    fork_server = parent(server)
    os.kill(server, signal.SIGSTOP)
    os.kill(fork_server, signal.SIGSTOP)
    engine.submit(request(2))
    ends = answers(engine, 1)
    assert ends[2].reason == "no sign of life for 4 seconds"
    (tmp_path / "go").touch()
    assert answers(engine, 1)[1].status == "finished", "a child goes on without its server"
    engine.submit(request(2, 2))
    assert "could not be started" in str(answers(engine, 1)[2].reason)


def test_signs_of_life_do_not_prolong_a_wait(make: Make, tmp_path: Path) -> None:
    engine = make({0: "waits"}, slots=1, silent_seconds=1.0)  # ten signs of life a second
    engine.submit(request(0))
    at_work(tmp_path, 0)
    server = engine._server
    assert server is not None
    found = list[int | None]()
    waits = Thread(target=lambda: found.append(server.exit_code(0, 0.5)), daemon=True)
    waits.start()
    waits.join(60)
    (tmp_path / "go").touch()
    assert found == [None]
