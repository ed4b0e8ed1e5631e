"""A run as a value: search, retrain, rank, report, export, resumable to the bit. No configuration here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.progress import SearchProgress
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.experiment.folder import check_free, forget, goes_on_in, is_first_process
from lightning_nas.experiment.inherited import check_inheritance
from lightning_nas.experiment.loggers import LoggerFactory
from lightning_nas.experiment.ranking import rank
from lightning_nas.experiment.result import collected, write_result
from lightning_nas.experiment.resume import check_resumable
from lightning_nas.experiment.retrain import check_retraining, retrain
from lightning_nas.experiment.search import search
from lightning_nas.experiment.settings import Names, Resuming, Retraining
from lightning_nas.experiment.specialise import Network, specialise
from lightning_nas.experiment.trainer import conditions
from lightning_nas.experiment.work import at_work
from lightning_nas.export.write import export_network
from lightning_nas.files import atomic
from lightning_nas.latency.table import LatencyTable
from lightning_nas.report.record import read_object
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.spaces.description import describe
from lightning_nas.spaces.own.explanation import SIZES
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.sizes import check_sizes
from lightning_nas.tasks.base import Task
from lightning_nas.training.exact import CONTENTS
from lightning_nas.training.signals import StopRequest
from lightning_nas.trials.engines.base import Engine
from lightning_nas.truth.curves import LearningCurves

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
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
        table: makes the latency table of the space, or None; its ``command``, if it has one, measures the answer too.
        engine: makes what trains or looks up candidates; None for strategies that share weights.
        target: largest costs of the answer by "table", "ms", "macs" and "params", or None; see
            :mod:`lightning_nas.strategies.target`.
        trains_nothing: whether candidates are looked up, so that no network sees the data during the search.
        callbacks: makes the callbacks of the search.
        progress: whether stages show a progress bar.
        loggers: besides ``metrics.csv``.
        retraining: how the answer is trained.
        retrain_task: the task with the retraining's label smoothing.
        ranking: the trainings of the stage "ranking".
        resuming: when checkpoints are taken.
        checkpoint: "last", a checkpoint file, or None to start afresh.
        formats: of the export; None for the usual ones.
        published: file of a table of published results, to look up the answer in.
        figures: of the result so far.
        warnings: doubts about the answer, in words; :meth:`warn` adds one.
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
    target: Mapping[str, float] | None = None
    trains_nothing: bool = False
    callbacks: Callable[[], list[pl.Callback]] = list
    progress: bool = True
    loggers: Sequence[LoggerFactory] = ()
    retraining: Retraining = field(default_factory=Retraining)
    retrain_task: Task | None = None
    ranking: LearningCurves | None = None
    resuming: Resuming = field(default_factory=Resuming)
    checkpoint: str | None = None
    formats: Sequence[str] | None = None
    published: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    next_best: list[Architecture] = field(default_factory=list)
    found: Architecture | None = None
    _begun: set[str] = field(default_factory=set)
    _network: nn.Module | None = None
    _table: LatencyTable | None = None

    def __repr__(self) -> str:
        parts = {"data": self.names.dataset, "space": self.space.name, "strategy": self.names.strategy}
        described = ", ".join(f"{key}={value!r}" for key, value in {**parts, "seed": self.seed}.items())
        return f"{type(self).__name__}({str(self.folder)!r}, {described})"

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
        """Train the answer's network in ``retrain/``, from scratch or inherited weights, and test it.

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
                earlier = self._figures_of_retraining()
                self.warnings = list(dict.fromkeys([*earlier.pop("warnings", []), *self.warnings]))
                self.figures = {**earlier, **self.figures}
            if is_first_process():
                write_result(self, answer, network, self.latency_table())
        return self.folder / "report.html"

    def export(self, formats: Sequence[str] | None = None) -> dict[str, Any]:
        """Write the trained network into ``export/`` in several formats, each compared with the network.

        Args:
            formats: as in :func:`~lightning_nas.export.write.export_network`; None for those of the run.

        Returns:
            The content of ``export.json``; nothing in other processes than the first.

        Raises:
            InputError: there is no trained network, or no such format.
            NumericalError: a file computes something else than the network.
        """
        with self.at_work():
            if not is_first_process():
                return {}
            space = self.home(self.answer) if describe(self.space) is None else None
            return export_network(self.folder, formats or self.formats, space=space)

    def specialise(
        self,
        targets: Sequence[float] | Mapping[str, Sequence[float]],
        *,
        out: str | Path | None = None,
        table: LatencyTable | None = None,
        formats: Sequence[str] | None = None,
    ) -> list[Network]:
        """Networks for several targets from the supernet of the finished search, each tested, measured and exported.

        Args:
            targets: costs in the unit of the table, or of each kind: "table", "ms", "macs" and "params".
            out: folder of what is written; None for ``specialised`` in the run's folder.
            table: of another device; None for that of the search.
            formats: of the exports; None for those of the run.

        Returns:
            The networks, and uniform ones of the same supernet to compare them with.

        Raises:
            ConfigError: the search is not finished, its networks share no weights, or no network keeps a target.
        """
        given = targets if isinstance(targets, Mapping) else {"table": targets}
        folder = self.folder / "specialised" if out is None else Path(out)
        return specialise(self, self.folder, folder, given, table=table, formats=formats or self.formats)

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
            return read_object(file)
        return collected(self)

    @property
    def score(self) -> float | None:
        """The task's score on the test part, trained or looked up; None if there is none."""
        return self.figures.get(f"test_{self.task.score_name}")

    def home(self, architecture: Architecture) -> SearchSpace:
        """The space of an answer, in the size that is retrained."""
        if architecture.space == self.space.name or not isinstance(self.space, WeightSharingSpace):
            return self.space.evaluation()
        return self.space.wider()

    def given(self, architecture: Architecture | str) -> Architecture:
        """An architecture of this space.

        Args:
            architecture: itself, a zoo name, or a file; "smallest", "middle" or "largest" where a space
                has a largest network, of which the others are parts.

        Raises:
            InputError: there is no such, or it is of another space.
        """
        if isinstance(architecture, Architecture):
            return self.home(architecture).validate(architecture)
        named: Architecture | None = getattr(self.space, architecture, None) if architecture in SIZES else None
        if named is not None:
            return named
        return self.space.validate(named_architecture(architecture))

    def latency_table(self) -> LatencyTable | None:
        """The run's latency table, kept in its folder so that a resumed run has the very same numbers."""
        if self._table is None:
            self._table = self._table_of_folder() or self.table(self.space)
            if self._table is None:
                return None
            if not len(self._table):
                raise ConfigError(
                    f"{self.space.name} lists no operations, so no table says what a network costs: latency_table=none"
                )
            if is_first_process():
                self._table.save(self.folder / "latency_table.json")
            if self._table.doubt:
                self.warn(f"the latency table is {self._table.doubt}")
        return self._table

    def _table_of_folder(self) -> LatencyTable | None:
        """The table with which the run began, if it is resumed."""
        file = self.folder / "latency_table.json"
        if not file.exists() or not (self.resumes or StopRequest.follows):
            return None
        table = LatencyTable.load(file)
        if table.space_digest != self.space.digest:
            raise ConfigError(f"the run in {shown(self.folder)} was on another search space; ckpt_path=last needs it")
        return table.check(self.space)

    def warn(self, doubt: str) -> None:
        """Say a doubt about the answer: in the log and on the terminal now, in ``result.json`` and the report later."""
        if doubt not in self.warnings:
            log.warning(doubt)
            self.warnings.append(doubt)

    @property
    def resumes(self) -> bool:
        """Whether the search goes on where the run's own folder stopped."""
        return goes_on_in(self.folder / "checkpoints", self.checkpoint)

    @cached_property
    def conditions(self) -> dict[str, str]:
        """What must not have changed before a resume: the settings, and the contents of the data."""
        contents = self.data.digest()
        return conditions(self.record) | ({CONTENTS: contents} if contents else {})

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
        check_free(self.folder, planned, self.checkpoint)
        check_inheritance(self)
        if "retrain" in planned or not self.trains_nothing:
            check_sizes(self.space, self.data, self.task)
        if "retrain" in planned:
            check_retraining(self)
        first = self.folder if stage == "search" else self.folder / "retrain"
        check_resumable(self.checkpoint, first, self.conditions, allow_inexact=self.resuming.allow_inexact)
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
        content = read_object(file)
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
    if not Path(name).expanduser().is_file():
        raise InputError(f"architecture={shown(name)} is neither a file nor a zoo name; the zoo has {zoo.names()}")
    return Architecture.load(name)
