"""The conformance suite of strategies that train each architecture on its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.errors import CheckpointError, ConfigError, NumericalError
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.random_search import RandomSearch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.seeding import generator, mix
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.requests import Request, Response

MakeTrials = Callable[..., TrialSearch]
LAYERS = 5  # 243 architectures


class BrokenDownError(Exception):
    """Ends the search of a test early."""


class ToyEngine(Engine):
    """Rewards an architecture of a toy space by the share of layers that keep the image.

    Args:
        slots: number of requests that run at once; they end in a shuffled order.
        noise: largest deduction, drawn from the seed of the request.
        fails: reason why an architecture fails; None if it does not.
        after: number of responses after which the engine breaks down; None for never.
        worth: reward of an architecture that is not of a toy space.
    """

    def __init__(
        self,
        slots: int = 1,
        *,
        noise: float = 0.0,
        fails: Callable[[Architecture], str | None] = lambda _: None,
        after: int | None = None,
        worth: Callable[[Architecture], float] | None = None,
    ) -> None:
        self._slots, self.noise, self.fails, self.after = slots, noise, fails, after
        self.worth = worth or toy_worth
        self.asked: list[Request] = []
        self._running: list[Request] = []
        self._given = 0

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, request: Request) -> None:
        assert len(self._running) < self._slots
        self.asked.append(request)
        self._running.append(Request.from_dict(json.loads(json.dumps(request.to_dict()))))

    def finished(self, timeout: float) -> list[Response]:
        if not self._running:
            return []
        if self._given == self.after:
            raise BrokenDownError
        self._given += 1
        request = self._running.pop(mix("which ends", self._given) % len(self._running))
        if reason := self.fails(request.architecture):
            return [Response(request.trial, request.attempt, "failed", reason=reason)]
        off = self.noise * torch.rand((), generator=generator(request.seed)).item()
        worth = max(0.0, self.worth(request.architecture) - off)
        return [Response(request.trial, request.attempt, "finished", (0.5 * worth, worth), seconds=1.0)]


def toy_worth(architecture: Architecture) -> float:
    """1 for the best architecture, 0 for one that keeps nothing."""
    return architecture.options.count("keep") / len(architecture.options)


class TrialStrategyCase:
    """Proves a strategy: subclass, and give the fixture ``make``.

    ``make(engine, seed=0, **options)`` gives a fresh strategy on ``ToySpace(LAYERS)``, ``options`` passed on to the
    strategy's constructor. Weights it has are drawn from ``seed``.
    """

    trials = 24  #: of the short searches
    budget = 60  #: trials of those that must find the best
    seeds = 20  #: searches with these many seeds
    found_at_least = 10  #: of them find it; random search, which is run beside them, finds it in fewer
    search_options: ClassVar[Mapping[str, Any]] = {}  #: of the strategy in these searches

    @pytest.fixture
    def make(self) -> MakeTrials:
        """The factory of the strategy under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'make'")

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        with one_thread():
            yield

    def search(self, make: MakeTrials, folder: Path, engine: Engine | None = None, **options: Any) -> TrialSearch:
        """Run a search of :attr:`trials` trials as the command does."""
        resume, every = options.pop("resume", None), options.pop("every", 1000)
        module = make(engine or ToyEngine(noise=0.1), **{"trials": self.trials} | options)
        trainer = fit(module, None, folder, epochs=1, every=every, resume=resume, callbacks=[TrialLogger()])
        self.ended = fingerprint(trainer, module, folder)
        return module

    # -- the same again -----------------------------------------------------------------------------------------

    def test_two_searches_of_one_seed_are_equal_to_the_bit(self, make: MakeTrials, tmp_path: Path) -> None:
        ends = []
        for run in ("a", "b"):
            torch.manual_seed(hash(run) % 2**32)
            answer = self.search(make, tmp_path / run, seed=3).answer()
            ends.append((self.ended, answer, (tmp_path / run / "trials.jsonl").read_text()))
        assert ends[0] == ends[1]

    def test_another_seed_gives_another_search(self, make: MakeTrials, tmp_path: Path) -> None:
        tried = [
            [trial.architecture for trial, _ in self.search(make, tmp_path / str(seed), seed=seed).history]
            for seed in (0, 1)
        ]
        assert tried[0] != tried[1]

    def test_the_engine_changes_nothing_while_results_are_ordered(self, make: MakeTrials, tmp_path: Path) -> None:
        ends = []
        for slots in (1, 3):
            answer = self.search(make, tmp_path / str(slots), ToyEngine(slots, noise=0.1), in_flight=4).answer()
            ends.append((self.ended, answer))
        assert ends[0] == ends[1]

    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_search_killed_anywhere_goes_on_as_if_it_had_not_been(
        self, make: MakeTrials, tmp_path: Path, ordered: bool
    ) -> None:
        how = {"ordered": ordered, "in_flight": 4, "every": 1, "seed": 5}
        whole = tmp_path / "whole"
        answer = self.search(make, whole, ToyEngine(3, noise=0.1), **how).answer()
        expected, ledger = self.ended, (whole / "trials.jsonl").read_bytes()
        for number, checkpoint in enumerate(sorted((whole / "checkpoints").glob("*.ckpt"))):
            again = tmp_path / f"{number}"
            again.mkdir()
            for file in [*whole.glob("*.csv"), whole / "trials.jsonl"]:
                shutil.copy(file, again)
            if number % 2:  # a line of the ledger is broken off, those after it are lost
                known = load_checked(checkpoint)["lightning_nas_events"]
                end = sum(map(len, ledger.splitlines(keepends=True)[:known])) + 7 * number
                (again / "trials.jsonl").write_bytes(ledger[:end])
            engine = ToyEngine(3, noise=0.1)
            if ordered or not number % 2:
                assert (
                    self.search(make, again, engine, **how | {"resume": checkpoint, "every": 1000}).answer() == answer
                )
                assert self.ended == expected, f"differs after resuming from {checkpoint.name}"
                assert number % 2 or not engine.asked, "a finished trial was trained again"

    def test_a_search_killed_before_a_checkpoint_resumes_from_the_ledger(
        self, make: MakeTrials, tmp_path: Path
    ) -> None:
        answer = self.search(make, tmp_path / "whole", seed=5).answer()
        expected = self.ended
        with pytest.raises(BrokenDownError):
            self.search(make, tmp_path / "killed", ToyEngine(noise=0.1, after=9), seed=5)
        for table in (tmp_path / "killed").glob("*.csv"):
            table.unlink()
        engine = ToyEngine(noise=0.1)
        assert self.search(make, tmp_path / "killed", engine, seed=5).answer() == answer
        assert self.ended == expected
        events = [json.loads(line) for line in (tmp_path / "killed" / "trials.jsonl").read_text().splitlines()]
        for kind in ("proposed", "finished"):
            numbers = [event["trial"] for event in events if event["event"] == kind]
            assert sorted(numbers) == list(range(len(numbers))), f"a trial is {kind} twice"

    def test_a_ledger_of_another_search_is_refused(self, make: MakeTrials, tmp_path: Path) -> None:
        self.search(make, tmp_path, seed=1)
        with pytest.raises(CheckpointError, match="another folder"):
            self.search(make, tmp_path, seed=2)

    def test_checkpoints_hold_plain_values_only(self, make: MakeTrials, tmp_path: Path) -> None:
        self.search(make, tmp_path)
        assert load_checked(tmp_path / "checkpoints" / "last.ckpt")["lightning_nas"]["position"] > 0

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def test_a_failing_child_has_the_worst_reward_and_does_not_end_the_search(
        self, make: MakeTrials, tmp_path: Path
    ) -> None:
        def fails(architecture: Architecture) -> str | None:
            return "NaN" if architecture.options[0] == "keep" else None

        module = self.search(make, tmp_path, ToyEngine(fails=fails))
        failed = [(trial, reward) for trial, reward in module.history if trial.reason]
        assert failed
        assert len(failed) < len(module.history)
        assert all(reward == 0 and not trial.curve for trial, reward in failed)
        assert module.answer().options[0] != "keep"

    def test_where_all_children_fail_there_is_no_answer_and_it_says_why(self, make: MakeTrials, tmp_path: Path) -> None:
        module = self.search(make, tmp_path, ToyEngine(fails=lambda _: "no memory"))
        assert len(module.history) == self.trials
        with pytest.raises(NumericalError, match=f"all {self.trials} trials failed; the last: no memory"):
            module.answer()

    def test_several_epochs_are_refused(self, make: MakeTrials, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"strategy\.trials"):
            fit(make(ToyEngine(), trials=self.trials), None, tmp_path, epochs=2)

    # -- what it finds ------------------------------------------------------------------------------------------

    def test_every_proposal_is_legal_and_the_answer_is_the_best_tried(self, make: MakeTrials, tmp_path: Path) -> None:
        module = self.search(make, tmp_path, ToyEngine())
        space = module.space
        assert len(module.history) == self.trials
        assert all(space.validate(trial.architecture) == trial.architecture for trial, _ in module.history)
        answer = module.answer()
        assert toy_worth(answer) == max(toy_worth(trial.architecture) for trial, _ in module.history)
        assert Architecture.from_json(answer.to_json()) == answer
        network = space.network(answer)
        loss = network(space.example(2, generator(0))).square().mean()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters() if isinstance(p, nn.Parameter))

    def test_it_finds_the_best_more_often_than_random_search(self, make: MakeTrials, tmp_path: Path) -> None:
        by_chance = sum(_random_search_finds_the_best(self.budget, seed) for seed in range(self.seeds))
        found, enough = 0, max(self.found_at_least, by_chance + 1)
        for seed in range(self.seeds):
            if found < enough:  # otherwise the rest cannot change the result
                options: dict[str, Any] = {"trials": self.budget, "seed": seed} | dict(self.search_options)
                module = make(ToyEngine(), **options)
                fit(module, None, tmp_path / str(seed), epochs=1, every=1000)
                found += module.answer() == ToySpace(LAYERS).best
        assert found >= enough, f"found in {found} of {self.seeds} seeds, by random search in {by_chance}"


@cache
def _random_search_finds_the_best(trials: int, seed: int) -> bool:
    """Whether random search finds the best in that number of trials; computed once for all strategies."""
    space = ToySpace(LAYERS)
    module = RandomSearch(space, Classification(), engine=ToyEngine(), trials=trials, seed=seed)
    with TemporaryDirectory() as folder:
        fit(module, None, Path(folder), epochs=1, every=1000)
    return module.answer() == space.best
