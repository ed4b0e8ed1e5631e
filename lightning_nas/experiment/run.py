"""A run as a value: search, retrain, rank, report, in one folder, resumable to the bit. No configuration here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.progress import SearchProgress
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.experiment.folder import forget, goes_on_in, is_first_process
from lightning_nas.experiment.loggers import LoggerFactory
from lightning_nas.experiment.ranking import rank
from lightning_nas.experiment.result import collected, write_result
from lightning_nas.experiment.resume import check_resumable
from lightning_nas.experiment.retrain import check_retraining, retrain
from lightning_nas.experiment.search import search
from lightning_nas.experiment.settings import Names, Resuming, Retraining
from lightning_nas.experiment.trainer import conditions
from lightning_nas.experiment.work import at_work
from lightning_nas.files import atomic, read_json
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.tasks.base import Task
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.engines.base import Engine
from lightning_nas.truth.curves import LearningCurves


@dataclass(eq=False)
class Run:
    """The parts of one run, and where it writes.

    Attributes:
        folder: of everything the run writes.
        data: set up already.
        space: to search.
        task: what networks are trained for.
        strategy: makes the search from (space, task, table, seed=..., and engine=... where candidates are trained).
        trainer: makes Lightning's Trainer from what a stage adds.
        record: the settings as plain values: ``config.yaml``, and what must not change before a resume.
        names: of the parts, for tables and loggers.
        write_record: the text of ``config.yaml``.
        seed: of everything random.
        threads: of torch's intra-op pool; None leaves it to torch.
        stages: planned, so that all are checked before the first begins.
        table: makes the latency table of the space, or None.
        engine: makes what trains or looks up candidates; None for strategies that share weights.
        trains_nothing: whether candidates are looked up, so that no network sees the data during the search.
        callbacks: makes the callbacks of the search.
        progress: whether stages show a progress bar.
        loggers: besides ``metrics.csv``.
        retraining: how the answer is trained.
        retrain_task: the task with the retraining's label smoothing.
        ranking: the trainings of the stage "ranking".
        resuming: when checkpoints are taken.
        checkpoint: "last", a checkpoint file, or None to start afresh.
        published: file of a table of published results, to look up the answer in.
        figures: of the result so far.
        found: the answer, once there is one in this process; :attr:`answer` also reads that of an earlier one.
        next_best: architectures that are drawn in the report after the answer.
    """

    folder: Path
    data: SearchData
    space: SearchSpace
    task: Task
    strategy: Callable[..., SearchModule | TrialSearch]
    trainer: Callable[..., pl.Trainer]
    record: dict[str, Any]
    names: Names
    write_record: str = ""
    seed: int = 0
    threads: int | None = 1
    stages: Sequence[str] = ("search", "retrain")
    table: Callable[[SearchSpace], LatencyTable | None] = lambda _: None
    engine: Callable[[], Engine] | None = None
    trains_nothing: bool = False
    callbacks: Callable[[], list[pl.Callback]] = list
    progress: bool = True
    loggers: Sequence[LoggerFactory] = ()
    retraining: Retraining = field(default_factory=Retraining)
    retrain_task: Task | None = None
    ranking: LearningCurves | None = None
    resuming: Resuming = field(default_factory=Resuming)
    checkpoint: str | None = None
    published: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    next_best: list[Architecture] = field(default_factory=list)
    found: Architecture | None = None
    _begun: set[str] = field(default_factory=set)
    _network: nn.Module | None = None
    _table: LatencyTable | None = None

    # -- stages -------------------------------------------------------------------------------------------------

    def search(self) -> Architecture:
        """Search, and write ``architecture.json``.

        Returns:
            The answer.

        Raises:
            InputError: the parts do not fit, or there is nothing to resume from.
            NumericalError: the search went wrong; no architecture is written.
        """
        with self.at_work():
            self._begin("search")
            self.found = search(self, self.latency_table())
            self._begun.discard("search")
        return self.found

    def retrain(self, architecture: Architecture | str | None = None) -> nn.Module:
        """Train the answer's network from scratch in ``retrain/``, and test it.

        Args:
            architecture: to train; a zoo name, a file, or None for the folder's answer.

        Returns:
            The trained network, in evaluation size, without what served its training alone.

        Raises:
            InputError: there is no answer yet, or it is not of this space.
            NumericalError: the training went wrong.
        """
        with self.at_work():
            chosen = self.answer if architecture is None else self.given(architecture)
            self._begin("retrain")
            self.found, self._network = chosen, retrain(self, chosen)
            self._begun.discard("retrain")
        return self._network

    def rank(self) -> None:
        """Train networks of the space alone and write how early their ranking is known (the stage "ranking")."""
        with self.at_work():
            self._begin("ranking")
            if is_first_process():
                rank(self)

    def report(self) -> Path:
        """Measure the answer's network, write ``result.json``, ``layers.csv`` and ``report.html``, print a table.

        Returns:
            The report's file.

        Raises:
            InputError: there is no answer yet.
        """
        with self.at_work():
            answer, network = self.answer, self._network
            if network is None:
                network = self.home(answer).network(answer)
                self.figures = {**self._figures_of_retraining(), **self.figures}
            if is_first_process():
                write_result(self, answer, network, self.latency_table())
        return self.folder / "report.html"

    def resume(self) -> Run:
        """Go on where the folder's run stopped: the search to its end, and the retraining if it had begun.

        Returns:
            This run, whose :attr:`answer` is there now.

        Raises:
            CheckpointError: the checkpoints are damaged, or were made under other conditions.
        """
        self.checkpoint = "last"
        if "search" in self.stages:
            self.search()
        if any((self.folder / "retrain" / "checkpoints").glob("*.ckpt")):
            self.retrain()
        return self

    # -- what there is ------------------------------------------------------------------------------------------

    @property
    def answer(self) -> Architecture:
        """The architecture that was found, in this process or before.

        Raises:
            InputError: nothing was found yet.
        """
        if self.found is None:
            file = self.folder / "architecture.json"
            if not file.exists():
                raise InputError(f"there is no answer in {shown(self.folder)} yet; search() finds one")
            found = Architecture.load(file)
            self.found = self.home(found).validate(found)
        return self.found

    @property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``; before :meth:`report` what is known so far, with None for the rest."""
        file = self.folder / "result.json"
        if file.exists():
            content: dict[str, Any] = read_json(file)
            return content
        return collected(self)

    def home(self, architecture: Architecture) -> SearchSpace:
        """The space of an answer, in the size that is retrained."""
        if architecture.space == self.space.name or not isinstance(self.space, WeightSharingSpace):
            return self.space.evaluation()
        return self.space.wider()

    def given(self, architecture: Architecture | str) -> Architecture:
        """An architecture of this space.

        Args:
            architecture: itself, a zoo name, or a file.

        Raises:
            InputError: there is no such, or it is of another space.
        """
        if isinstance(architecture, Architecture):
            return self.home(architecture).validate(architecture)
        return self.space.validate(named_architecture(architecture))

    def latency_table(self) -> LatencyTable | None:
        """The run's latency table, kept in its folder so that a resumed run has the very same numbers."""
        if self._table is None:
            file = self.folder / "latency_table.json"
            if file.exists() and (self.resumes or StopRequest.follows):
                table = LatencyTable.load(file)
                if table.space_digest != self.space.digest:
                    raise ConfigError(
                        f"the run in {shown(self.folder)} was on another search space; ckpt_path=last needs it"
                    )
                self._table = table.check(self.space)
                return self._table
            self._table = self.table(self.space)
            if self._table is not None and is_first_process():
                self._table.save(file)
        return self._table

    @property
    def resumes(self) -> bool:
        """Whether the search goes on where the run's own folder stopped."""
        return goes_on_in(self.folder / "checkpoints", self.checkpoint)

    def bar(self, stage: str) -> SearchProgress:
        """The progress bar of a stage, with its number among the planned ones."""
        planned = list(self.stages)
        if stage not in planned:
            return SearchProgress(stage)
        return SearchProgress(stage, planned.index(stage) + 1, len(planned))

    # -- around a stage -----------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Signals, threads, warnings, the folder's lock and loggers as a stage needs them, and as before afterwards."""
        with at_work(self.folder, self.seed, self.threads):
            yield

    def _begin(self, stage: str) -> None:
        """Check everything that the planned stages need, then remove what an earlier run left, and write the record."""
        if stage in self._begun:
            return
        planned = tuple(self.stages) if stage == "search" else (stage,)
        if "retrain" in planned or not self.trains_nothing:
            check_sizes(self.space, self.data)
        if "retrain" in planned:
            check_retraining(self)
        first = self.folder if stage == "search" else self.folder / "retrain"
        known, allow = conditions(self.record), self.resuming.allow_inexact
        check_resumable(self.checkpoint, first, known, allow_inexact=allow)
        if is_first_process():
            if self.checkpoint != "last":
                forget(self.folder, planned, self.checkpoint)
            with atomic(self.folder / "config.yaml") as file:
                file.write(self.write_record)
        self._begun.update(planned)

    def _figures_of_retraining(self) -> dict[str, Any]:
        """Figures that an earlier process left in ``result.json``, of the same answer."""
        file = self.folder / "result.json"
        if "retrain" not in self.stages or not file.exists():
            return {}
        content = read_json(file)
        if content.get("architecture") != self.answer.to_dict():
            return {}
        return {name: value for name, value in content.items() if value is not None}


def named_architecture(name: str) -> Architecture:
    """The architecture of a zoo name or a file.

    Raises:
        InputError: neither exists.
    """
    from lightning_nas import zoo

    if name in zoo.names():
        return zoo.load(name)
    if not Path(name).is_file():
        raise InputError(f"architecture={shown(name)} is neither a file nor a zoo name; the zoo has {zoo.names()}")
    return Architecture.load(name)
