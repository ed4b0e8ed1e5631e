"""Base class of searches that propose architectures, train each of them, and learn from the rewards."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from array import array
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import PositiveFloat

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.data.attach import attach
from lightning_nas.data.base import SearchData
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
from lightning_nas.ranges import Count, Seed
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.children import usual_child
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.strategies.target import Target, Wanted
from lightning_nas.strategies.usual import usual_task
from lightning_nas.strategies.warm_start import WarmStart, WarmStartSettings
from lightning_nas.tasks.base import Task
from lightning_nas.training.exact import ExactCheckpoint, beside_checkpoint
from lightning_nas.training.module import ResumableModule
from lightning_nas.training.seeding import generator
from lightning_nas.trials.archive import History
from lightning_nas.trials.book import Proposal, Trial, Trials
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.ledger import Ledger

WORST = 0.0  # reward of a failed trial; rewards of tasks are at least 0
_LEDGER = "trials.jsonl"
_EVENTS = "lightning_nas_events"  # key of a checkpoint: events of the ledger when it was made
_POSITION, _TEXT = "lightning_nas_ledger", "lightning_nas_ledger_text"  # its length and digest; all of it
_INDEX = "lightning_nas_index"  # where it goes on, and the digest of the index
_HOPELESS = 10  # the search stops if the workers of all its first trials were lost
_CURVES = 5  # fewest trials with a median
_COSTS = 10_000  # costs that are remembered


class TrialSearch(Checked, ResumableModule):
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
        target: largest cost of the answer in the unit of the table, or costs by "table", "ms", "macs" and "params";
            None for no bound. Instead of an architecture that does not meet it, one nearby is trained.
        warm_start: begin with the best of many random architectures by a score without training, such as
            ``{"proxy": "logsynflow", "draw": 200, "take": 10}``; None to begin as the paper does. See
            :mod:`lightning_nas.strategies.warm_start`.

    Raises:
        ConfigError: no architecture keeps the target.
        ConfigError: ``median_stop`` with an engine that trains nothing, or ``child`` with an engine.
        ConfigError: ``warm_start`` has another key, takes more than it draws, or is for networks of words.

    Attributes:
        target: the costs that the answer must keep; None for no bound.
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
        child: Judge | None = None,
        seed: Seed = 0,
        trials: Count = 30,
        seconds: PositiveFloat | None = None,
        in_flight: Count = 4,
        ordered: bool = True,
        attempts: Count = 3,
        reuse: bool = True,
        median_stop: bool = False,
        trials_per_step: Count = 1,
        target: Wanted | None = None,
        warm_start: WarmStartSettings | None = None,
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
        if engine is not None and engine.figure not in (None, self.task.score_name):
            raise ConfigError(
                f"this engine has {engine.figure} of every trial, and the task asks for {self.task.score_name}; legal: "
                "task=classification, or engine=local, which trains"
            )
        self.target = Target.of(space, table, target, seed)
        self.warm_start = None if warm_start is None else WarmStart.of(warm_start)
        if self.warm_start is not None:
            self.warm_start.check_space(space)
        self._warm: list[tuple[Architecture, float]] | None = None if self.warm_start else []
        self._data: SearchData | None = None
        self._engine, self._in_process = engine, engine is None
        self._child = child or self.usual_child()
        self.count, self.seconds, self.median_stop, self.trials_per_step = trials, seconds, median_stop, trials_per_step
        self._how: dict[str, Any] = {"in_flight": in_flight, "ordered": ordered, "attempts": attempts, "reuse": reuse}
        self.history: list[tuple[Trial, float]] | History = []
        self.figures: dict[str, float] = {}
        self.clock = 0.0
        self._costs: dict[Architecture, float] = {}
        self._best = -1
        self._reached: list[array[float]] = []  # by epoch: the best rewards so far of all trials, in order
        self._index: dict[str, Any] | None = None
        self._temporary: TemporaryDirectory[str] | None = None

    # -- what a strategy defines --------------------------------------------------------------------------------

    @classmethod
    def check_judge(cls, judge: type | None) -> None:
        """Refuse what cannot judge the candidates of this search; by default anything can.

        Args:
            judge: the class that trains or scores candidates; None where results are looked up.

        Raises:
            ConfigError: says what is legal.
        """

    @classmethod
    def check_child(cls, settings: Mapping[str, Any], child: Mapping[str, Any]) -> None:
        """Refuse settings that do not go with those of a child; needs no instance, so that it comes first.

        Args:
            settings: the constructor's arguments.
            child: settings of the children.

        Raises:
            ConfigError: names the keys.
        """

    @property
    def blind(self) -> int:
        """Trials that are proposed before any result has had a say; 0 for a search that never heeds results."""
        return 0

    @property
    def most_begun_with(self) -> int:
        """The largest number of given architectures that the search can begin with."""
        return self.count

    def usual_child(self) -> Judge:
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

    def monitors(self) -> set[str]:
        """Quantities that are logged after every trial, for callbacks such as ``EarlyStopping``."""
        return {"trial/reward", "trial/best", "trial/seconds"}

    def log_search(self) -> None:
        """Log quantities of the strategy, by default the figures; called after batches whose values are logged."""
        for name, value in self.figures.items():
            self.log_batch(name, value)

    @property
    def answer_rule(self) -> str:
        """How :meth:`answer` chooses, in words for the report."""
        return "the highest reward of all trials; among equal ones the earliest"

    def answer(self) -> Architecture:
        """The best architecture so far; among equal rewards the earliest.

        Raises:
            NumericalError: every trial failed.
        """
        if self._best < 0 or self.history[self._best][0].failed:
            last = self.history[-1][0].reason if self.history else "none was made"
            raise NumericalError(f"all {len(self.history)} trials failed; the last: {last}")
        best = self.history[self._best][0].architecture
        return best if self.target is None or self.target.keeps(best) else self._best_within(self.target, best)

    def _best_within(self, target: Target, best: Architecture) -> Architecture:
        """The best architecture that keeps the target; without any an untrained one near the best."""
        kept = [past for past in self.history if not past[0].failed and target.keeps(past[0].architecture)]
        if not kept:
            return target.nearest(best, self.rng("target", len(self.history)))
        return max(kept, key=lambda past: past[1])[0].architecture

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

    @property
    def warm(self) -> list[Architecture]:
        """The architectures of the warm start, the best first; none without one."""
        if self._warm is None:
            assert self.warm_start is not None
            keeps = {} if self.target is None else {"keeps": self.target.keeps}
            rng = self.rng("warm start", 0)
            self._warm = self.warm_start.best(self.space, self._data, self.task, self.seed, rng, **keeps)
        return [architecture for architecture, _ in self._warm]

    def beginning(self, place: int, rng: torch.Generator) -> Architecture:
        """An architecture to begin with: the one at ``place`` of the warm start, or a random one after the last."""
        return self.warm[place] if place < len(self.warm) else self.space.sample(rng)

    def beginnings(self, count: int, rng: torch.Generator) -> list[Architecture]:
        """Different architectures to begin with: those of the warm start, then random ones."""
        drawn = self.space.different(count, rng)
        return list(dict.fromkeys([*self.warm, *drawn]))[:count]

    def warmed(self, proposal: Proposal, number: int) -> Proposal:
        """The proposal of a policy as trial ``number``; of the first trials with an architecture of the warm start."""
        return self.moved(proposal, self.warm[number]) if number < len(self.warm) else proposal

    def cost(self, architecture: Architecture) -> float | None:
        """Cost by the latency table, in its unit; None without a table."""
        if self.table is None:
            return None
        if architecture not in self._costs:
            if len(self._costs) >= _COSTS:
                self._costs.clear()
            self._costs[architecture] = self.space.cost(architecture, self.table)
        return self._costs[architecture]

    def places(self, saved: Any) -> list[int]:
        """Indices in the history, as a checkpoint has them.

        Raises:
            CheckpointError: it has something else in their place.
        """
        if not isinstance(saved, list) or any(type(p) is not int or not 0 <= p < len(self.history) for p in saved):
            raise CheckpointError(f"the checkpoint is malformed: {shown(saved)} are no trials of its history")
        return saved

    @property
    def rewards(self) -> Sequence[float]:
        """Rewards of the trials of the history, all in memory."""
        return self.book.returned.rewards

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
            if hopeless and self.book.untrained:
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
            if self._warm:
                proposal = self._noted(proposal)
            if self.target is not None:
                near = self.target.nearest(proposal.architecture, self.rng("target", self.book.proposed))
                if near != proposal.architecture:
                    proposal = self.moved(proposal, near)
            if self.median_stop:
                proposal = replace(proposal, bars=self._medians())
            self.book.propose(proposal)

    def _noted(self, proposal: Proposal) -> Proposal:
        """The proposal with the score of its architecture in its notes, if it is one of the warm start."""
        scores = dict(self._warm or ())
        if proposal.architecture not in scores:
            return proposal
        return replace(proposal, info=proposal.info | {"warm_start": scores[proposal.architecture]})

    def _recorded(self, trial: Trial) -> float:
        """Add a trial to the history; returns its reward."""
        beyond = self.target is not None and not self.target.keeps(trial.architecture)
        reward = WORST if trial.failed or beyond else self.reward(trial)
        self.history.append((trial, reward))
        self.clock += trial.seconds
        if self.median_stop and trial.curve:
            self._rank(trial.curve)
        best, highest = self.history[self._best] if self._best >= 0 else (None, WORST)
        if best is None or (not trial.failed and (reward > highest or best.failed)):
            self._best = len(self.history) - 1
        return reward

    def _rank(self, curve: tuple[float, ...]) -> None:
        best = itertools.accumulate(map(self.task.reward, curve), max)
        for epoch, reward in enumerate(best):
            if epoch == len(self._reached):
                self._reached.append(array("d"))
            insort(self._reached[epoch], reward)

    def moved(self, proposal: Proposal, architecture: Architecture) -> Proposal:
        """The proposal with an architecture that meets the target in the place of its own.

        A strategy that learns from how it came to its own may return the proposal as it is; beyond the target its
        reward is 0.
        """
        return replace(proposal, architecture=architecture)

    def _medians(self) -> tuple[float, ...]:
        """Median over finished trials of the best reward up to each epoch."""
        if not self._reached or len(self._reached[0]) < _CURVES:
            return ()
        return tuple((known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2 for known in self._reached)

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
            ConfigError: several processes, several epochs, or a number of steps.
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
        if self.trainer.max_steps != -1:
            raise ConfigError(
                f"trainer.max_steps={self.trainer.max_steps}: a search by trials takes no steps; set strategy.trials"
            )
        self._check_warm_start()
        if self._in_process or self.looks_at_data:
            self._data = attach(self.trainer, self.seed, own_loader=True)
            self._data.expect(self.task.targets)
            self._data.setup("fit")
            check_sizes(self.space, self._data, self.task)
        if self._in_process:
            assert self._data is not None
            self._engine = SerialEngine(ObjectsJob(self._data, self.space, self.task, self._child))
        return []

    @property
    def looks_at_data(self) -> bool:
        """Whether the search looks at images itself, beside its engine."""
        return self.warm_start is not None and self.warm_start.looks_at_data

    def _check_warm_start(self) -> None:
        if self.warm_start is not None and self.warm_start.take > (most := self.most_begun_with):
            legal = f"take at most {most}" if most else "null, since it has a beginning of its own"
            raise ConfigError(
                f"strategy.warm_start: take={self.warm_start.take} is more than this search can begin with; legal: "
                f"{legal}"
            )

    def setup(self, stage: str) -> None:
        folder = self._folder()

        def weights(number: int) -> str:
            return str((folder / "children" / f"{number}.pt").resolve())

        ledger = Ledger(folder / _LEDGER)
        if (exact := self._exact()) is not None:
            ledger.begin(exact.fingerprint(self.trainer), allow_inexact=exact.allow_inexact)
        self._keep = weights if self.keeps_weights else None
        self.book = self._opened(ledger)

    def _opened(self, ledger: Ledger) -> Trials:
        how = {"seed": self.seed, "canonical": self.space.canonical, "keep": self._keep, **self._how}
        book = Trials(self.engine, ledger, **how)
        self.history = History(book.returned)
        return book

    def _exact(self) -> ExactCheckpoint | None:
        """The callback of exact checkpoints; None under a plain Trainer."""
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, ExactCheckpoint)), None)

    def _folder(self) -> Path:
        """The folder of the ledger: that of the run if it can be resumed exactly, otherwise one of this fit alone."""
        trainer = self.trainer
        if self._exact() is not None:
            return Path(trainer.default_root_dir)
        if not trainer.loggers:
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
        ledger = self.book.ledger
        checkpoint[_EVENTS], checkpoint[_POSITION] = ledger.events, ledger.position()
        checkpoint[_INDEX] = self.book.position()
        if self._exact() is None:  # the checkpoint may be resumed in any folder
            checkpoint[_TEXT] = ledger.text()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ledger = self.book.ledger
        if ledger.opened_with < checkpoint.get(_EVENTS, 0):
            beside = beside_checkpoint(self.trainer, _LEDGER)
            if text := checkpoint.get(_TEXT) or (beside and beside.read_text(encoding="utf-8")):
                ledger.close()
                ledger = Ledger.restore(ledger.path, text)
                self.book = self._opened(ledger)
        if ledger.opened_with < checkpoint.get(_EVENTS, 0):
            raise CheckpointError(
                f"{ledger.path.name} has {ledger.opened_with} events and the checkpoint was made after "
                f"{checkpoint[_EVENTS]}: it belongs to another folder, or its ledger is gone"
            )
        if _POSITION in checkpoint:
            ledger.check(checkpoint[_POSITION])
        self._index = checkpoint.get(_INDEX)
        super().on_load_checkpoint(checkpoint)

    def state(self) -> dict[str, Any]:
        known: dict[str, Any] = {"figures": self.figures, "clock": self.clock, "best": self._best}
        if self.warm_start is not None:
            known["warm"] = self._warm and [(taken.to_dict(), score) for taken, score in self._warm]
        return {**super().state(), "trials": self.book.state(), **known}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.book.load_state(state["trials"], self._index)
        self.history = History(self.book.returned)
        self.figures = dict(state["figures"])
        if self.warm_start is not None and (warm := state.get("warm")) is not None:
            self._warm = [
                (self.space.validate(Architecture.from_dict(content)), float(score)) for content, score in warm
            ]
        if self.history and not self.median_stop:  # the index has the rewards
            [self._best], self.clock = self.places([state["best"]]), float(state["clock"])
        else:
            del self.book.returned.rewards[:]
            for trial in self.book.returned:
                self._recorded(trial)


def named(name: str, space: SearchSpace) -> Architecture:
    """An architecture of the zoo or of a file.

    Raises:
        InvalidArchitecture: it is not found, or is not of the space.
    """
    if name not in zoo.names() and not Path(name).expanduser().is_file():
        raise InvalidArchitecture(f"strategy.start: {shown(name)} is neither a file nor a zoo name; see zoo.names()")
    try:
        return space.validate(zoo.load(name) if name in zoo.names() else Architecture.load(name))
    except InvalidArchitecture as reason:
        raise InvalidArchitecture(f"strategy.start: {shown(name)}: {reason}") from None
