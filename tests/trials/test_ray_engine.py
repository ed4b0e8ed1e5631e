"""Ray on the loopback device: a head and two nodes of one core each, all on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unruly import answers, at_work, gone, job, request

from lightning_nas.errors import ConfigError, EnvironmentFailure
from lightning_nas.testing.training import one_thread
from lightning_nas.trials.book import Proposal, Trial, Trials
from lightning_nas.trials.engines.ray import RayEngine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.ledger import Ledger

HELPERS = Path(__file__).parents[1] / "helpers"
Make = Callable[..., RayEngine]


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*(name for name in sys.modules if name.partition(".")[0] == "ray"), "ray"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install lightning_nas\[ray\]"):
        RayEngine(job(tmp_path), address="auto")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes and a head without cores, which nobody else can reach."""
    paths = os.pathsep.join([str(HELPERS), *filter(None, sys.path)])
    own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (own | {"PYTHONPATH": paths}).items():
            patched.setenv(name, value)
        pytest.importorskip("ray", reason="Ray is not installed: pip install lightning_nas[ray]")
        from ray._private.authentication_test_utils import reset_auth_token_state
        from ray.cluster_utils import Cluster

        reset_auth_token_state()  # in case another test has imported Ray before
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture
def make(cluster: Any, tmp_path: Path) -> Iterator[Make]:
    """An engine that has joined the cluster, on children with deeds by trial; marks are in tmp_path."""
    made: list[RayEngine] = []

    def engine(deeds: dict[int, str] | None = None, **options: object) -> RayEngine:
        made.append(RayEngine(job(tmp_path, deeds), **{"address": cluster.address} | options))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def slots(engine: RayEngine, count: int, seconds: float = 600.0) -> None:
    """Wait until it has that number of slots."""
    deadline = time.monotonic() + seconds
    while engine.slots != count:
        assert time.monotonic() < deadline, engine.slots
        time.sleep(0.1)


def told(trials: list[Trial]) -> list[Any]:
    return [(trial.number, trial.architecture, trial.curve, trial.reason) for trial in trials]


def search(engine: Any, path: Path, count: int = 4) -> list[Any]:
    """The trials of a search in order, at most two open at a time."""
    book, trials = Trials(engine, Ledger(path), in_flight=2), list[Trial]()
    while len(trials) < count:
        while book.wants and book.proposed < count:
            book.propose(Proposal(request(book.proposed).architecture))
        trial = book.next()
        assert trial is not None
        trials.append(trial)
    book.close()
    return told(trials)


def test_results_equal_the_serial_engine_and_failures_have_reasons(make: Make, tmp_path: Path) -> None:
    deeds = {3: "raises", 4: "is killed", 5: "sleeps"}
    ray, serial = make(deeds, minutes=0.25), SerialEngine(job(tmp_path / "serial"))
    assert ray.slots == 2
    for trial in range(6):
        ray.submit(request(trial))
    ends = answers(ray, 6)
    for trial in range(3):
        serial.submit(request(trial))
    expected = answers(serial, 3)
    assert {t: ends[t].curve for t in range(3)} == {t: r.curve for t, r in expected.items()}
    assert (ends[3].status, ends[3].reason) == ("failed", "RuntimeError: the shapes do not fit")
    assert (ends[4].status, ends[4].reason) == ("lost", "its process was killed by SIGKILL")
    assert (ends[5].status, ends[5].reason) == ("failed", "took more than 0.25 minutes")


def test_a_killed_worker_or_node_loses_only_its_own_trial(make: Make, cluster: Any, tmp_path: Path) -> None:
    engine = make({0: "waits", 1: "waits"})
    for trial in (0, 1):
        engine.submit(request(trial))
    child, other = at_work(tmp_path, 0), at_work(tmp_path, 1)
    worker = parent(parent(parent(child)))  # the job server and the fork server are between them
    os.kill(worker, signal.SIGKILL)
    response = answers(engine, 1)[0]
    assert response.status == "lost"
    assert "WorkerCrashedError" in str(response.reason)
    assert gone(child)
    raylet = parent(parent(parent(parent(other))))
    [node] = [node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == raylet]
    os.kill(raylet, signal.SIGKILL)
    os.waitpid(raylet, 0)  # as init would: its workers look for it
    response = answers(engine, 1)[1]
    assert response.status == "lost"
    assert str(response.reason).isprintable()
    assert gone(other)
    slots(engine, 1)
    cluster.worker_nodes.remove(node)
    node.kill_all_processes(check_alive=False)  # what a machine that goes down takes with it
    cluster.add_node(num_cpus=1)
    slots(engine, 2)
    (tmp_path / "go").touch()
    for trial in (0, 1):
        engine.submit(request(trial, attempt=2))
    assert {response.status for response in answers(engine, 2).values()} == {"finished"}


SEARCH = """
import json, sys
from pathlib import Path
from test_ray_engine import search
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.trials.engines.ray import RayEngine
search(RayEngine(ConfiguredJob(json.loads(sys.argv[1])), address=sys.argv[2]), Path(sys.argv[3]))
"""


def test_children_of_a_killed_search_end_and_it_resumes_exactly(make: Make, cluster: Any, tmp_path: Path) -> None:
    path, what = tmp_path / "trials.jsonl", json.dumps(job(tmp_path, {1: "waits"}).content)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])}
    killed = subprocess.Popen([sys.executable, "-c", SEARCH, what, cluster.address, str(path)], env=env)
    try:
        child = at_work(tmp_path, 1)
        deadline = time.monotonic() + 300
        while '"finished"' not in path.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait(120)
    assert gone(child)
    ray, before = search(make(), path), search(SerialEngine(job(tmp_path / "serial")), tmp_path / "serial.jsonl")
    assert ray == before
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(e["trial"] for e in events if e["event"] == "finished") == [0, 1, 2, 3]
    assert [e["attempt"] for e in events if e["event"] == "started" and e["trial"] == 0] == [1]


IMPORTED_BEFORE = """
import json, sys
import ray
from lightning_nas.cli.job import ConfiguredJob
from lightning_nas.trials.engines.ray import RayEngine
engine = RayEngine(ConfiguredJob(json.loads(sys.argv[1])), slots=1)
print(engine.slots)
engine.close()
"""


def test_a_cluster_of_its_own_starts_where_ray_was_imported_before(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install lightning_nas[ray]")
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", IMPORTED_BEFORE, json.dumps(job(tmp_path).content)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout.split()) == (0, ["1"]), ended.stderr[-2000:]


def test_resources_that_no_machine_has_are_refused_at_once(make: Make) -> None:
    for asked in ({"cpus": 2}, {"gpus": 1}, {"gpus": 0.5, "cpus": 0.5}):  # each node has one core
        began = time.monotonic()
        with pytest.raises(ConfigError, match="no machine of the Ray cluster"):
            make(**asked)
        assert time.monotonic() - began < 200
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        engine = make(cpus=0.5, slots=3)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # Ray would take it over
    finally:
        signal.signal(signal.SIGTERM, before)
    assert engine.slots == 3  # of four
    engine.submit(request(0))
    assert answers(engine, 1)[0].status == "finished"


def test_a_cluster_without_machines_is_not_waited_for_for_ever(
    make: Make, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine, patient = make({0: "waits"}, patience_minutes=0.05), make()
    engine.submit(request(0))
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    try:
        with pytest.raises(EnvironmentFailure, match=r"they have 0 CPUs and 0 GPUs; waited 0\.05 minutes"):
            answers(engine, 2)  # that of the lost child, and one that nobody can give
        assert "no machine has room for a child any more" in caplog.text
        assert patient.slots == 0
    finally:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
    slots(patient, 2)
