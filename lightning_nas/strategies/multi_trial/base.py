"""Base class of searches that propose architectures, train each of them, and learn from the rewards."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import PositiveFloat, PositiveInt

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.data.attach import attach
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
from lightning_nas.signature import FullSignature
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.children import usual_child
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.strategies.usual import usual_task
from lightning_nas.tasks.base import Task
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal, Trial, Trials
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.ledger import Ledger

WORST = 0.0  # reward of a failed trial; rewards of tasks are at least 0
_LEDGER = "trials.jsonl"
_EVENTS = "lightning_nas_events"  # key of a checkpoint: events of the ledger when it was made
_HOPELESS = 10  # the search stops if the workers of all its first trials were lost
_CURVES = 5  # fewest trials with a median


class TrialSearch(FullSignature, ResumableModule):
    """Base class of searches that train each architecture on its own; a training batch is a number of finished trials.

    Subclasses implement :meth:`propose`, and as the paper needs it :meth:`learn`, :meth:`reward`, :meth:`answer`,
    :meth:`log_search`, and ``state`` and ``load_state`` for values that replaying :attr:`history` does not restore.

    All random numbers of trial n come from ``self.rng(name, n)``. A proposal may depend on the trials learned from and
    on nothing else; then the search resumes exactly, see :class:`~lightning_nas.trials.book.Trials`.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for strategies that use costs and for logging.
        engine: trains the trials; None trains them in this process, on the data of ``Trainer.fit``.
        child: how a trial is trained, without an engine; None for three epochs, as in conf/child/default.yaml.
        seed: seed of all random numbers.
        trials: largest number of trials.
        seconds: seconds of training, summed over trials, after which nothing is proposed; None for no limit.
        in_flight: number of open proposals. Values above 1 propose with stale results and change the outcome, so the
            number does not depend on the machine.
        ordered: learn from results in the order of proposals, which makes a search equal on every machine; otherwise
            in the order of arrival.
        attempts: how often a trial whose worker is lost is tried.
        reuse: give a repeated architecture its earlier result instead of training it again.
        median_stop: end a trial whose best reward is below the median of earlier trials at the same epoch (Golovin et
            al., KDD 2017, section 3.2.1, with the best reward instead of the running average).
        trials_per_step: trials of one batch of the loop; saves overhead of Lightning where trials take no time.

    Raises:
        ConfigError: ``median_stop`` with an engine that trains nothing, or ``child`` with an engine.

    Attributes:
        history: all trials learned from, in order, with their rewards.
        figures: logged quantities of the strategy, by key; kept in checkpoints.
    """

    keeps_weights = False  #: whether a trial can inherit the weights of another

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        engine: Engine | None = None,
        child: Child | None = None,
        seed: int = 0,
        trials: PositiveInt = 30,
        seconds: PositiveFloat | None = None,
        in_flight: PositiveInt = 4,
        ordered: bool = True,
        attempts: PositiveInt = 3,
        reuse: bool = True,
        median_stop: bool = False,
        trials_per_step: PositiveInt = 1,
    ) -> None:
        super().__init__(seed)
        if engine is not None and child is not None:
            raise ConfigError(
                "strategy.child says how to train without an engine; the engine has its own, leave one out"
            )
        if median_stop and engine is not None and engine.instant:
            raise ConfigError("strategy.median_stop ends children early, and this engine trains none; leave it out")
        self.automatic_optimization = False
        self.space, self.task, self.table = space, task or usual_task(space), table
        self._engine, self._in_process = engine, engine is None
        self._child = child or self.usual_child()
        self.count, self.seconds, self.median_stop, self.trials_per_step = trials, seconds, median_stop, trials_per_step
        self._how: dict[str, Any] = {"in_flight": in_flight, "ordered": ordered, "attempts": attempts, "reuse": reuse}
        self.history: list[tuple[Trial, float]] = []
        self.figures: dict[str, float] = {}
        self.clock = 0.0
        self._costs: dict[Architecture, float] = {}
        self._best = -1
        self._temporary: TemporaryDirectory[str] | None = None

    # -- what a strategy defines --------------------------------------------------------------------------------

    def usual_child(self) -> Child:
        """How a trial is trained, if neither an engine nor a child was given."""
        return usual_child(self.task)

    @abstractmethod
    def propose(self, number: int) -> Proposal | Architecture | None:
        """Propose trial ``number``; None to wait for another result first."""

    def learn(self, trial: Trial, reward: float) -> None:
        """Learn from a result; a failed trial has the worst reward."""

    def reward(self, trial: Trial) -> float:
        """Reward of a trial that did not fail, at least 0; by default the task reward of the last figure."""
        return self.task.reward(trial.curve[-1])

    def log_search(self) -> None:
        """Log quantities of the strategy, by default the figures; called after batches whose values are logged."""
        for name, value in self.figures.items():
            self.log_batch(name, value)

    def answer(self) -> Architecture:
        """The best architecture so far, the first one of equals.

        Raises:
            NumericalError: every trial failed.
        """
        if self._best < 0 or self.history[self._best][0].failed:
            last = self.history[-1][0].reason if self.history else "none was made"
            raise NumericalError(f"all {len(self.history)} trials failed; the last: {last}")
        return self.history[self._best][0].architecture

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Tables of the finished search by name, which become files of the run and figures of the report."""
        return {}

    # -- what a strategy can use --------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """Trains the trials.

        Raises:
            ConfigError: the search trains in this process and has no data yet.
        """
        if self._engine is None:
            raise ConfigError("the search has no data yet: it trains in this process, on the data of Trainer.fit")
        return self._engine

    def rng(self, stream: str, number: int) -> torch.Generator:
        """A generator for random numbers of trial ``number``."""
        return generator(self.seed, stream, number)

    def cost(self, architecture: Architecture) -> float | None:
        """Cost by the latency table, in its unit; None without a table."""
        if self.table is None:
            return None
        if architecture not in self._costs:
            self._costs[architecture] = self.space.cost(architecture, self.table)
        return self._costs[architecture]

    @property
    def over(self) -> bool:
        """Whether the seconds are used up."""
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
        """Add a trial to the history; returns its reward."""
        reward = WORST if trial.failed else self.reward(trial)
        self.history.append((trial, reward))
        self.clock += trial.seconds
        best, highest = self.history[self._best] if self._best >= 0 else (None, WORST)
        if best is None or (not trial.failed and (reward > highest or best.failed)):
            self._best = len(self.history) - 1
        return reward

    def _medians(self) -> tuple[float, ...]:
        """Median over finished trials of the best reward up to each epoch."""
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
        """No callbacks; the first hook that sees the trainer, to refuse what cannot work.

        Raises:
            ConfigError: several processes, or several epochs.
            DataError: neither an engine nor data.
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
        if self._in_process:
            data = attach(self.trainer, self.seed, own_loader=True)
            data.setup("fit")
            check_sizes(self.space, data)
            self._engine = SerialEngine(ObjectsJob(data, self.space, self.task, self._child))
        return []

    def setup(self, stage: str) -> None:
        folder = self._folder()

        def weights(number: int) -> str:
            return str((folder / "children" / f"{number}.pt").resolve())

        ledger = Ledger(folder / _LEDGER)
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

    def _folder(self) -> Path:
        """The folder of the ledger: that of the run if it can be resumed exactly, otherwise one of this fit alone."""
        trainer = self.trainer
        if any(isinstance(callback, ExactCheckpoint) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            return Path(trainer.default_root_dir)
        if not trainer.loggers and trainer.ckpt_path is None:
            self._temporary = TemporaryDirectory(prefix="lightning_nas_")
            return Path(self._temporary.name)
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if trainer.ckpt_path is None:
            (folder / _LEDGER).unlink(missing_ok=True)  # of an earlier fit, which this one does not continue
        return folder

    def teardown(self, stage: str) -> None:
        self.book.close()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

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
    """An architecture of the zoo or of a file.

    Raises:
        InvalidArchitecture: it is not found, or is not of the space.
    """
    if name not in zoo.names() and not Path(name).is_file():
        raise InvalidArchitecture(f"strategy.start: {shown(name)} is neither a file nor a zoo name; see zoo.names()")
    try:
        return space.validate(zoo.load(name) if name in zoo.names() else Architecture.load(name))
    except InvalidArchitecture as reason:
        raise InvalidArchitecture(f"strategy.start: {shown(name)}: {reason}") from None
