"""The driver of trials with an engine whose children end in any order, and kills at any byte of the ledger."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_nas.architecture import Architecture
from lightning_nas.errors import CheckpointError, Interrupted
from lightning_nas.testing.multi_trial import LAYERS, ToyEngine
from lightning_nas.testing.toys import ToySpace
from lightning_nas.training.seeding import mix
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.book import Proposal, Trial, Trials
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.ledger import Ledger
from lightning_nas.trials.requests import Request, Response

COUNT = 12
fast = patch("lightning_nas.trials.ledger.os.fsync", lambda _: None)  # kills are made here by cutting
OPTIONS = ("a", "b", "c")


def architecture(number: int) -> Architecture:
    return Architecture("toy", tuple((f"layer_{i}", OPTIONS[number // 3**i % 3]) for i in range(2)))


class AnyOrder(Engine):
    """Children that end in an order drawn from ``rng``, several at a time, some lost, some late, some failing."""

    def __init__(self, rng: random.Random, *, slots: int = 3, lost: float = 0.0) -> None:
        self.rng, self._slots, self.lost = rng, slots, lost
        self.running, self.asked, self.closed = list[Request](), list[Request](), False

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, request: Request) -> None:
        assert len(self.running) < self._slots
        self.running.append(request)
        self.asked.append(request)

    def finished(self, timeout: float) -> list[Response]:
        ending = [
            self.running.pop(self.rng.randrange(len(self.running))) for _ in self.running[: self.rng.randint(0, 2)]
        ]
        return [self.lose(r) if self.rng.random() < self.lost else trained(r) for r in ending]

    def lose(self, request: Request) -> Response:
        return Response(request.trial, request.attempt, "lost", reason="killed")

    def close(self) -> None:
        self.closed = True


def trained(request: Request) -> Response:
    """A function of architecture and seed, as every engine gives."""
    worth = mix(request.seed, request.architecture.key) % 1000 / 1000
    if worth < 0.1:
        return Response(request.trial, request.attempt, "failed", reason="NaN")
    return Response(request.trial, request.attempt, "finished", (worth / 2, worth), 1.0)


@dataclass
class Search:
    """Proposes neighbours of the best so far; what it does follows from its seed and the results, in their order."""

    book: Trials
    history: list[Trial] = field(default_factory=list)
    saved: list[tuple[tuple[Any, ...], int, int]] = field(default_factory=list)

    def propose(self) -> Proposal:
        best = max(self.history, key=lambda trial: trial.curve[-1:], default=None)
        number = mix(self.book.seed, self.book.proposed, best.architecture.key if best else "")
        return Proposal(architecture(number % 9), {"after": len(self.history), "third": 1 / 3})

    def run(self, until: int = COUNT) -> "Search":
        while len(self.history) < until:
            while self.book.wants and self.book.proposed < COUNT:
                self.book.propose(self.propose())
            trial = self.book.next()
            assert trial is not None
            self.history.append(trial)
            self.book.returned.rewards.append(0.5)
            state = json.loads(json.dumps([self.book.state(), self.book.position()]))
            self.saved.append((tuple(state), len(self.history), self.book.ledger.path.stat().st_size))
        return self

    @classmethod
    def resumed(cls, book: Trials, state: tuple[Any, ...]) -> "Search":
        book.load_state(*state)
        book.returned.rewards.extend([0.5] * (len(book.returned) - len(book.returned.rewards)))
        return cls(book, list(book.returned))


def start(path: Path, rng: random.Random, *, ordered: bool, lost: float = 0.0, slots: int = 3, **how: Any) -> Search:
    engine = AnyOrder(rng, slots=slots, lost=lost)
    return Search(Trials(engine, Ledger(path), seed=5, in_flight=4, ordered=ordered, attempts=1000, **how))


def told(trials: list[Trial]) -> list[Any]:
    return [(t.number, t.architecture, t.info, t.curve, t.seconds, t.reason) for t in trials]


def events(path: Path, *kinds: str) -> list[int]:
    every = [json.loads(line) for line in path.read_text().splitlines()]
    return [event["trial"] for event in every if event["event"] in kinds]


@fast
@settings(max_examples=150, deadline=None)
@given(
    ordered=st.booleans(),
    seed=st.integers(0, 10**6),
    kills=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4),
)
def test_a_search_killed_at_any_byte_resumes_to_the_same_trials(
    tmp_path_factory: pytest.TempPathFactory, ordered: bool, seed: int, kills: list[tuple[float, float]]
) -> None:
    rng, path = random.Random(seed), tmp_path_factory.mktemp("search") / "trials.jsonl"
    search = start(path, rng, ordered=ordered, lost=0.2).run()
    expected = told(search.history)
    for which, where in kills:
        begun = [(({"proposed": 0, "returned": []},), 0, 0), *search.saved]
        state, _, least = begun[int(which * (len(begun) - 1))]
        content = path.read_bytes()
        cut = least + int(where * (len(content) - least))
        path.write_bytes(content[:cut])
        known = events_before(content[:cut])
        search = Search.resumed(start(path, rng, ordered=ordered, lost=0.2).book, state).run()
        if not ordered:  # what had been handed back and is in the ledger comes back in the same order
            common = [trial for trial in expected if trial[0] in known]
            assert told(search.history)[: len(common)] == common
            expected = told(search.history)
        assert told(search.history) == expected
        retrained = {request.trial for request in search.book.engine.asked}
        assert not retrained & known
    assert sorted(trial.number for trial in search.history) == list(range(COUNT))
    assert sorted(events(path, "proposed")) == sorted(events(path, "finished", "failed")) == list(range(COUNT))


def events_before(content: bytes) -> set[int]:
    whole = [json.loads(line) for line in content.split(b"\n")[:-1]]
    return {event["trial"] for event in whole if event["event"] in ("finished", "failed")}


def aged(line: bytes, version: int) -> bytes:
    """A line as an earlier version wrote it: 1 with a checksum of the line alone, 0 with none."""
    content = json.loads(line)
    crc = content.pop("crc")
    content |= {"crc": crc[:8]} if version else {}
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("version", [0, 1])
def test_a_ledger_of_an_earlier_version_resumes_to_the_same_trials(tmp_path: Path, version: int) -> None:
    path = tmp_path / "trials.jsonl"
    expected = told(start(path, random.Random(3), ordered=True).run().history)
    half = b"".join(aged(line, version) for line in path.read_bytes().splitlines()[:20])
    path.write_bytes(half)
    search = start(path, random.Random(4), ordered=True).run()
    assert told(search.history) == expected
    assert not {request.trial for request in search.book.engine.asked} & events_before(half)
    assert told(start(path, random.Random(5), ordered=True).run().history) == expected  # lines of both versions


def test_results_that_changed_places_are_refused_without_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    start(path, random.Random(1), ordered=False).run()
    lines = path.read_bytes().splitlines(keepends=True)
    one, other = [n for n, line in enumerate(lines) if b'"finished"' in line][:2]
    lines[one], lines[other] = lines[other], lines[one]
    path.write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match="was written after other lines"):
        start(path, random.Random(1), ordered=False).run()


@fast
@settings(max_examples=50, deadline=None)
@given(seeds=st.tuples(st.integers(), st.integers()), slots=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_in_order_a_search_does_not_depend_on_the_engine(
    tmp_path_factory: pytest.TempPathFactory, seeds: tuple[int, int], slots: tuple[int, int]
) -> None:
    ends = []
    for seed, count in zip(seeds, slots, strict=True):
        path = tmp_path_factory.mktemp("search") / "trials.jsonl"
        ends.append(told(start(path, random.Random(seed), ordered=True, slots=count).run().history))
    assert ends[0] == ends[1]
    assert [trial[0] for trial in ends[0]] == list(range(COUNT))


def test_out_of_order_results_come_as_they_end(tmp_path: Path) -> None:
    search = start(tmp_path / "trials.jsonl", random.Random(1), ordered=False, reuse=False).run()
    came = [trial.number for trial in search.history]
    assert came != sorted(came)
    assert came == events(tmp_path / "trials.jsonl", "finished", "failed")


def test_what_is_handed_back_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.jsonl"
    search = start(path, random.Random(0), ordered=False)
    safe = [0]
    monkeypatch.setattr("lightning_nas.trials.ledger.os.fsync", lambda _: safe.append(path.stat().st_size))
    for done in range(1, COUNT + 1):
        search.run(done)
        with path.open("rb") as file:
            assert search.history[-1].number in events_before(file.read(safe[-1]))


def test_a_repeated_architecture_is_trained_once_and_takes_no_time(tmp_path: Path) -> None:
    search = start(tmp_path / "a.jsonl", random.Random(0), ordered=True).run()
    trained_ones = [request.architecture for request in search.book.engine.asked]
    assert len(set(trained_ones)) < COUNT
    for later in range(COUNT):
        same = [t for t in search.history[:later] if t.architecture == search.history[later].architecture]
        # those proposed before the first had come back do not know of it
        if same and search.history[later].info["after"] > same[0].number:
            assert search.history[later].curve == same[0].curve
            assert search.history[later].seconds == 0
            assert search.book.engine.asked[-1].trial != later
    each = start(tmp_path / "b.jsonl", random.Random(0), ordered=True, reuse=False).run()
    assert sorted(request.trial for request in each.book.engine.asked) == list(range(COUNT))


def test_a_trial_that_is_always_lost_is_given_up_with_the_reason(tmp_path: Path) -> None:
    book = Trials(AnyOrder(random.Random(0), lost=1.0), Ledger(tmp_path / "trials.jsonl"), attempts=3)
    book.propose(Proposal(architecture(0)))
    trial = book.next()
    assert trial is not None
    assert (trial.curve, trial.reason) == ((), "lost 3 times, at last: killed")
    assert events(tmp_path / "trials.jsonl", "started", "lost") == [0] * 6
    assert [request.seed for request in book.engine.asked] == [book.engine.asked[0].seed] * 3


def test_interrupted_attempts_are_not_counted_as_lost(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trials.jsonl"
    for _ in range(5):  # killed while the child runs
        book = Trials(AnyOrder(random.Random(0)), Ledger(path), attempts=2)
        book.propose(Proposal(architecture(0)))
        book.ledger.close()
    book = Trials(AnyOrder(random.Random(0), lost=1.0), Ledger(path), attempts=2)
    book.propose(Proposal(architecture(0)))
    while not events(path, "lost"):
        book._wait()
    book.ledger.close()
    engine = AnyOrder(random.Random(0), lost=1.0)
    book = Trials(engine, Ledger(path), attempts=2)
    book.propose(Proposal(architecture(0)))
    trial = book.next()
    assert trial is not None
    assert trial.reason == "lost 2 times, at last: killed"
    assert [request.attempt for request in engine.asked] == [8]


def test_a_late_answer_of_an_abandoned_attempt_is_ignored(tmp_path: Path) -> None:
    class Twice(AnyOrder):
        def finished(self, timeout: float) -> list[Response]:
            ended = [trained(request) for request in self.running]
            self.running.clear()
            return [
                r for response in ended for r in (Response(response.trial, 7, "finished", (9.0,)), response, response)
            ]

    book = Trials(Twice(random.Random(0)), Ledger(tmp_path / "trials.jsonl"))
    book.propose(Proposal(architecture(3)))
    assert book.next().curve != (9.0,)
    assert book.next() is None
    assert events(tmp_path / "trials.jsonl", "finished", "failed") == [0]


@pytest.mark.parametrize("curve", [(), (0.5, float("nan")), (float("inf"),)])
def test_figures_that_are_no_numbers_are_a_failure(tmp_path: Path, curve: tuple[float, ...]) -> None:
    class Diverges(AnyOrder):
        def finished(self, timeout: float) -> list[Response]:
            return [Response(self.running[0].trial, 1, "finished", curve)]

    book = Trials(Diverges(random.Random(0)), Ledger(tmp_path / "trials.jsonl"))
    book.propose(Proposal(architecture(3)))
    trial = book.next()
    assert (trial.curve, trial.reason) == ((), f"its figures are {list(curve)}")
    Trials(Diverges(random.Random(0)), Ledger(tmp_path / "trials.jsonl")).propose(Proposal(architecture(3)))


def test_slots_may_come_and_go(tmp_path: Path) -> None:
    search = start(tmp_path / "trials.jsonl", random.Random(3), ordered=True)
    engine = search.book.engine
    for done, slots in enumerate((3, 1, 0, 5, 2, 4), start=1):
        engine._slots = max(slots, 0 if engine.running else 1)
        search.run(done)
    assert [trial.number for trial in search.run().history] == list(range(COUNT))


def test_a_signal_while_children_run_ends_them_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = start(tmp_path / "trials.jsonl", random.Random(0), ordered=True).run(3)
    monkeypatch.setattr(StopRequest, "signum", 15)
    with pytest.raises(Interrupted) as caught:
        search.run()
    assert caught.value.code == 143
    assert search.book.engine.closed


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"proposed","trial":0}',
        '{"event":"proposed","trial":0,"architecture":{},"info":{},"parent":null,"bars":[]}',
        '{"event":"proposed","trial":0,"architecture":[],"info":{},"parent":null,"bars":[]}',
        '{"event":"proposed","trial":0,"architecture":null,"info":{},"parent":null,"bars":null}',
        '{"event":"started","trial":0}',
        '{"event":"lost","trial":0}',
        '{"event":"finished","trial":0,"attempt":1,"curve":3}',
        '{"event":"finished","trial":0,"attempt":1,"curve":[],"virus":1}',
        '{"event":"finished","trial":0,"attempt":1,"curve":["a"],"seconds":1.0,"reason":null}',
        '{"event":"finished","trial":0,"attempt":1,"curve":[1],"seconds":"a","reason":null}',
        '{"event":"finished","trial":0,"attempt":1,"curve":[1],"seconds":1.0,"reason":"none"}',
        '{"event":"failed","trial":0,"attempt":1,"curve":[],"seconds":1.0,"reason":null}',
        '{"event":"started","trial":0,"attempt":"b"}',
    ],
)
def test_an_event_that_lacks_what_it_needs_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(CheckpointError) as caught:
        Trials(AnyOrder(random.Random(0)), Ledger(path)).propose(Proposal(architecture(0)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_ledger_of_other_settings_is_refused(tmp_path: Path, ordered: bool) -> None:
    path = tmp_path / "trials.jsonl"
    start(path, random.Random(0), ordered=ordered).run()
    with pytest.raises(CheckpointError, match="another folder"):
        Search(Trials(AnyOrder(random.Random(0)), Ledger(path), seed=6, in_flight=4, ordered=ordered)).run()
    if not ordered:
        with pytest.raises(CheckpointError, match="another folder"):
            Search(Trials(AnyOrder(random.Random(0)), Ledger(path), seed=5, in_flight=1, ordered=False)).run()


def test_an_architecture_that_is_open_already_is_not_trained_again(tmp_path: Path) -> None:
    engine, space = ToyEngine(slots=4), ToySpace(LAYERS)
    one, two = space.best, space.mutate(space.best, torch.Generator().manual_seed(0))
    book = Trials(engine, Ledger(tmp_path / "trials.jsonl"), in_flight=4)
    for architecture in (one, one, two, one):
        book.propose(Proposal(architecture))
    ended = [book.next() for _ in range(4)]
    assert [trial.number for trial in ended if trial] == [0, 1, 2, 3]
    assert [trial.architecture for trial in ended if trial] == [one, one, two, one]
    assert [request.architecture for request in engine.asked] == [one, two]
    assert [trial.seconds for trial in ended if trial] == [1.0, 0.0, 1.0, 0.0]
    assert book.next() is None
