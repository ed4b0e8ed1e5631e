"""What every search by trials is: it proposes architectures, has them trained, and learns from their rewards."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import PositiveFloat, PositiveInt

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.data.loaders import Loader
from lightning_nas.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentFailure,
    InvalidArchitecture,
    NumericalError,
    shown,
)
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal, Trial, Trials
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.ledger import Ledger

WORST = 0.0  # the reward of a child that failed; rewards of tasks are not below
_EVENTS = "lightning_nas_events"  # in the ledger when a checkpoint was made
_HOPELESS = 10  # so many trials of which nothing came but lost workers: children cannot be trained here
_CURVES = 5  # fewer have no median that a child should be held against


class TrialSearch(ResumableModule):
    """A search on any space. A batch of its loop is a number of trials that have ended.

    Subclasses implement :meth:`propose`, and as the paper asks for it :meth:`learn`, :meth:`reward`, :meth:`answer`,
    :meth:`log_search`, and, for what cannot be had by replaying :attr:`history`, ``state`` and ``load_state``.

    Everything random of trial n comes from ``self.rng(name, n)``. What a search proposes may depend on the trials it
    has learned from and on nothing else, then it resumes exactly: see :class:`~lightning_nas.trials.book.Trials`.

    Args:
        space: what can be built.
        task: what for.
        table: what each operation costs, for strategies that look at it and for what is shown.
        engine: trains the children.
        seed: of everything random.
        trials: how many, at most.
        seconds: of training, all trials together; once they are spent nothing is proposed any more.
        in_flight: proposals that may be open at a time. More than one and the search proposes before it knows what
            came of the last; it decides what is found, so it does not follow from the machine.
        ordered: learn from results in the order of proposals, which makes a search the same on every machine; else as
            they come.
        attempts: how often a trial is tried whose worker is lost.
        reuse: a repeated architecture has the result it had, and is not trained again.
        median_stop: children end whose best reward is below the median of what those before had reached by that epoch
            (Golovin et al., KDD 2017, section 3.2.1, of the best instead of the running average).
        trials_per_step: trials that one batch of the loop waits for; saves Lightning's time where trials take none.

    Raises:
        ConfigError: ``median_stop`` of an engine that trains nothing.

    Attributes:
        history: every trial learned from, in order, with its reward.
        figures: what is logged of the strategy's own, by key; kept in checkpoints.
    """

    keeps_weights = False  #: whether children begin with the weights of others

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        engine: Engine,
        seed: int = 0,
        trials: PositiveInt = 40,
        seconds: PositiveFloat | None = None,
        in_flight: PositiveInt = 4,
        ordered: bool = True,
        attempts: PositiveInt = 3,
        reuse: bool = True,
        median_stop: bool = False,
        trials_per_step: PositiveInt = 1,
    ) -> None:
        super().__init__(seed)
        if median_stop and engine.instant:
            raise ConfigError("strategy.median_stop ends children early, and this engine trains none; leave it out")
        self.automatic_optimization = False
        self.space, self.task, self.table, self.engine = space, task, table, engine
        self.count, self.seconds, self.median_stop, self.trials_per_step = trials, seconds, median_stop, trials_per_step
        self._how: dict[str, Any] = {"in_flight": in_flight, "ordered": ordered, "attempts": attempts, "reuse": reuse}
        self.history: list[tuple[Trial, float]] = []
        self.figures: dict[str, float] = {}
        self.clock = 0.0
        self._costs: dict[Architecture, float] = {}
        self._best = -1

    # -- what a strategy says of itself -------------------------------------------------------------------------

    @abstractmethod
    def propose(self, number: int) -> Proposal | Architecture | None:
        """Trial ``number``; None if nothing is to be proposed before another result has come."""

    def learn(self, trial: Trial, reward: float) -> None:
        """Take note of a result; of a failed trial the reward is the worst there is."""

    def reward(self, trial: Trial) -> float:
        """What a trial that did not fail was worth, at least 0; by default the task's reward of the last figure."""
        return self.task.reward(trial.curve[-1])

    def log_search(self) -> None:
        """Log what is the strategy's own; called after a batch whose values are logged. By default the figures."""
        for name, value in self.figures.items():
            self.log_batch(name, value)

    def answer(self) -> Architecture:
        """The best so far, of equals the first.

        Raises:
            NumericalError: every trial failed.
        """
        if self._best < 0 or self.history[self._best][0].failed:
            last = self.history[-1][0].reason if self.history else "none was made"
            raise NumericalError(f"all {len(self.history)} trials failed; the last: {last}")
        return self.history[self._best][0].architecture

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of what the strategy has at its end, by name: files of the run's folder that the report draws."""
        return {}

    # -- what a strategy can ask --------------------------------------------------------------------------------

    def rng(self, stream: str, number: int) -> torch.Generator:
        """A generator for something random of trial ``number``."""
        return generator(self.seed, stream, number)

    def cost(self, architecture: Architecture) -> float | None:
        """By the latency table, in its unit; None without one."""
        if self.table is None:
            return None
        if architecture not in self._costs:
            self._costs[architecture] = self.space.cost(architecture, self.table)
        return self._costs[architecture]

    @property
    def over(self) -> bool:
        """Whether the seconds are spent."""
        return self.seconds is not None and self.clock >= self.seconds

    # -- the loop -----------------------------------------------------------------------------------------------

    def training_step(self, batch: int, batch_idx: int) -> None:
        for _ in range(self.trials_per_step):
            self._propose()
            trial = self.book.next()
            if trial is None:
                self.trainer.should_stop = True
                break
            self.learn(trial, self._recorded(trial))
            hopeless = len(self.history) == min(_HOPELESS, self.count)
            if hopeless and all(self.book.gave_up(past.number) for past, _ in self.history):
                raise EnvironmentFailure(f"none of {len(self.history)} children could be trained here: {trial.reason}")
        if self.history and self.logging_is_due:
            best = self.history[self._best][1]
            values = {"trial/reward": self.history[-1][1], "trial/best": best, "trial/seconds": self.clock}
            for name, value in values.items():
                self.log_batch(name, value, prog_bar=name != "trial/seconds")
            self.log_search()

    def _propose(self) -> None:
        while self.book.wants and self.book.proposed < self.count and not self.over:
            proposal = self.propose(self.book.proposed)
            if proposal is None:
                return
            if isinstance(proposal, Architecture):
                proposal = Proposal(proposal)
            if self.median_stop:
                proposal = replace(proposal, bars=self._medians())
            self.book.propose(proposal)

    def _recorded(self, trial: Trial) -> float:
        """The reward of a trial that has joined the history."""
        reward = WORST if trial.failed else self.reward(trial)
        self.history.append((trial, reward))
        self.clock += trial.seconds
        best, highest = self.history[self._best] if self._best >= 0 else (None, WORST)
        if best is None or (not trial.failed and (reward > highest or best.failed)):
            self._best = len(self.history) - 1
        return reward

    def _medians(self) -> tuple[float, ...]:
        """By epoch, of the best reward that each finished child had reached by then."""
        curves = [[self.task.reward(figure) for figure in trial.curve] for trial, _ in self.history if trial.curve]
        longest = max(map(len, curves), default=0)
        reached = ([max(curve[: epoch + 1]) for curve in curves if len(curve) > epoch] for epoch in range(longest))
        return tuple(median(rewards) for rewards in reached) if len(curves) >= _CURVES else ()

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def train_dataloader(self) -> Loader[int]:
        """The numbers of the batches."""
        return Loader(range(-(-self.count // self.trials_per_step)), lambda: self.position)

    def configure_optimizers(self) -> Any:
        """None, unless a strategy has parameters."""
        return None

    def configure_callbacks(self) -> list[pl.Callback]:
        """No callbacks; the first hook that sees the trainer, for what would go wrong later.

        Raises:
            ConfigError: several processes, or several epochs.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                f"a search by trials runs in one process, got {self.trainer.world_size}; spread its children "
                "with engine.slots=..., or over machines with engine=ray"
            )
        if self.trainer.max_epochs != 1:
            raise ConfigError(
                f"trainer.max_epochs={self.trainer.max_epochs}: a search by trials has one epoch; set strategy.trials"
            )
        return []

    def setup(self, stage: str) -> None:
        folder = Path(self.trainer.default_root_dir)

        def weights(number: int) -> str:
            return str((folder / "children" / f"{number}.pt").resolve())

        ledger = Ledger(folder / "trials.jsonl")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ExactCheckpoint):
                ledger.begin(callback.fingerprint(self.trainer), allow_inexact=callback.allow_inexact)
        self.book = Trials(
            self.engine,
            ledger,
            seed=self.seed,
            canonical=self.space.canonical,
            keep=weights if self.keeps_weights else None,
            **self._how,
        )

    def teardown(self, stage: str) -> None:
        self.book.close()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[_EVENTS] = self.book.ledger.events

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ledger = self.book.ledger
        if ledger.opened_with < checkpoint.get(_EVENTS, 0):
            raise CheckpointError(
                f"{ledger.path.name} has {ledger.opened_with} events and the checkpoint was made after "
                f"{checkpoint[_EVENTS]}: it belongs to another folder, or its ledger is gone"
            )
        super().on_load_checkpoint(checkpoint)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "trials": self.book.state(), "figures": self.figures}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.book.load_state(state["trials"])
        self.figures = dict(state["figures"])
        for trial in self.book.returned:
            self._recorded(trial)


def named(name: str, space: SearchSpace) -> Architecture:
    """What a search is to start with: of the zoo, or a file.

    Raises:
        InvalidArchitecture: there is no such, or it is not of the space.
    """
    if name not in zoo.names() and not Path(name).is_file():
        raise InvalidArchitecture(f"strategy.start: {shown(name)} is neither a file nor a zoo name; see zoo.names()")
    try:
        return space.validate(zoo.load(name) if name in zoo.names() else Architecture.load(name))
    except InvalidArchitecture as reason:
        raise InvalidArchitecture(f"strategy.start: {shown(name)}: {reason}") from None
