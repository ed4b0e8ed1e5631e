"""The runs of a comparison, each in a folder of its own; what each of them came to."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, InputError, NasError
from lightning_nas.experiment.comparison.baselines import network_of, of_space
from lightning_nas.experiment.comparison.known import Known
from lightning_nas.experiment.comparison.plan import RANDOM, Maker, Method, Plan
from lightning_nas.experiment.settings import Names
from lightning_nas.export.trained import sizes_of
from lightning_nas.files import atomic
from lightning_nas.functional.comparing import incumbents
from lightning_nas.report.record import number, read_object, read_rows

if TYPE_CHECKING:
    from lightning_nas.experiment.comparison.on_ray import Cluster

_LOG = "run.log"


class Job(NamedTuple):
    """One run to be made."""

    task: str
    seed: int
    method: Method


@dataclass(frozen=True)
class Row:
    """One run of a comparison: a row of ``comparison.csv``.

    Attributes:
        task: search space and data.
        method: a strategy, or a network that nobody searched for.
        seed: of the run.
        failed: why there is no figure; None for a finished run.
        figure: what is compared: the test accuracy of the answer, its R2, its mAP, or minus its perplexity.
        source: of the figure, in words.
        trials: that led to the answer; None for a search that shares weights.
        weights_steps: of shared weights.
        arch_steps: of the architecture.
        training_seconds: of the search: those of all trials, which a table may say, or of the shared weights.
        search_seconds: of the search in this process.
        retrain_seconds: of the answer's training.
        params: parameters of the answer.
        macs: multiply-adds of the answer.
        cost: of the answer by the latency table; None without a table.
        kendall_tau: of the search's ranking against its truth.
        kendall_tau_macs: of multiply-adds against the same truth.
        architecture: the options of the answer.
        folder: of the run, inside that of the comparison.
    """

    task: str
    method: str
    seed: int
    failed: str | None
    figure: float | None = None
    source: str | None = None
    trials: int | None = None
    weights_steps: int | None = None
    arch_steps: int | None = None
    training_seconds: float | None = None
    search_seconds: float | None = None
    retrain_seconds: float | None = None
    params: float | None = None
    macs: float | None = None
    cost: float | None = None
    kendall_tau: float | None = None
    kendall_tau_macs: float | None = None
    architecture: str | None = None
    folder: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Curve:
    """The best answer so far of one search by trials.

    Attributes:
        task: of the search.
        method: likewise.
        seed: likewise.
        seconds: of training, when each trial ended.
        values: of the best trial so far: what a table says of its test accuracy, else its reward.
    """

    task: str
    method: str
    seed: int
    seconds: tuple[float, ...]
    values: tuple[float, ...]


def prepare(plan: Plan, maker: Maker) -> dict[str, Known]:
    """The tables of the tasks that have one, before anything runs.

    Raises:
        InputError: data or a table cannot be read, or the hand-made network is not of the space.
    """
    return {task: table for task in plan.tasks if (table := _prepared(plan, maker, task))}


def run_all(
    plan: Plan,
    maker: Maker,
    known: Mapping[str, Known],
    say: Callable[[str], None],
    cluster: Cluster | None = None,
) -> tuple[list[Row], list[Curve]]:
    """Make every run that is not finished, and read what all of them came to.

    A run that fails is counted and named, and the others go on; a later call tries it again. Where a table has the
    truth, a network that depends on no seed has one run, which counts for every seed.

    Args:
        plan: what to run.
        maker: of the runs.
        known: tables by task.
        say: told a line after each run.
        cluster: where the runs are made; None for this process, one after another.

    Returns:
        The rows, and the curves of searches by trials.
    """
    jobs = list(itertools.product(plan.tasks, plan.seeds, plan.methods))
    once = [
        Job(task, plan.seeds[0] if task in known and method.kind not in ("search", "one draw") else seed, method)
        for task, seed, method in jobs
    ]
    away = {} if cluster is None else _made_away(plan, maker, once, cluster, say)
    rows, curves = list[Row](), list[Curve]()
    for place, ((task, seed, method), job) in enumerate(zip(jobs, once, strict=True), start=1):
        folder, began = plan.run_folder(task, method.name, job.seed), time.monotonic()
        reason = away.get(job)
        if job not in away and not _ended(plan, job):
            reason = make_run(plan, maker, job)
        row = replace(_read(plan, method, task, job.seed, reason, known.get(task)), seed=seed)
        rows.append(row)
        curve = None if row.failed else _curve(row, folder, known.get(task))
        curves += [curve] if curve else []
        ended = f"failed: {row.failed}" if row.figure is None else f"{row.figure:.4f}"
        say(f"{place}/{len(jobs)} {task} {method.name} seed {seed}: {ended} ({time.monotonic() - began:.1f} s)")
    return rows, curves


def _prepared(plan: Plan, maker: Maker, task: str) -> Known | None:
    """The table of a task, if it has one; refuses a hand-made network that is not of the space.

    Raises:
        InputError: the table cannot be read, or the network is of another space.
    """
    first = maker.run(RANDOM, task, plan.seeds[0], plan.run_folder(task, RANDOM, plan.seeds[0]))
    if plan.hand_made:
        try:
            of_space(first, plan.hand_made)
        except InputError as reason:
            raise ConfigError(f"hand_made: {reason}") from None
    return Known.of(first)


def _made_away(
    plan: Plan, maker: Maker, jobs: Sequence[Job], cluster: Cluster, say: Callable[[str], None]
) -> dict[Job, str | None]:
    """Make the missing runs on a cluster; returns why each failed, None if it did not."""
    missing = [job for job in dict.fromkeys(jobs) if not _ended(plan, job)]
    made = dict[Job, str | None]()
    for job, reason in cluster.make(plan, maker, missing) if missing else ():
        made[job] = reason
        ended = "made" if reason is None else f"failed: {reason}"
        say(f"{len(made)}/{len(missing)} on Ray: {job.task} {job.method.name} seed {job.seed}: {ended}")
    return made


def _ended(plan: Plan, job: Job) -> bool:
    return (plan.run_folder(job.task, job.method.name, job.seed) / "result.json").exists()


def make_run(plan: Plan, maker: Maker, job: Job) -> str | None:
    """Make one run in its folder; returns why it failed, None if it did not."""
    task, seed, method = job
    folder = plan.run_folder(task, method.name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with _into(folder / _LOG):
        try:
            _run(plan, maker, method, task, seed, folder)
        except NasError as reason:
            traceback.print_exc()
            return str(reason)
        except Exception as reason:  # noqa: BLE001 - whatever a strategy raises, the other runs go on
            traceback.print_exc()
            return f"{type(reason).__name__}: {reason} (see {_LOG})"
    return None


def _run(plan: Plan, maker: Maker, method: Method, task: str, seed: int, folder: Path) -> None:
    run = maker.run(method.name if method.kind == "search" else RANDOM, task, seed, folder)
    with run.at_work():
        if method.kind == "search":
            run.search()
            if "retrain" in run.stages:
                run.retrain()
        else:
            run.names = Names(method.name, run.names.dataset)
            run.found = network_of(method, run, plan.hand_made)
            run.found.save(folder / "architecture.json", sizes_of(run.home(run.found), run.data.num_classes))
            if "retrain" in run.stages:
                run.retrain(run.found)
            else:
                with atomic(folder / "config.yaml") as file:
                    file.write(run.write_record)
        run.report()


@contextlib.contextmanager
def _into(file: Path) -> Iterator[None]:
    """Write what a run prints and logs into a file, so that the terminal has a line for each run."""
    log = logging.getLogger()
    with file.open("a", encoding="utf-8") as stream:
        before, log.handlers = log.handlers, [logging.FileHandler(file, encoding="utf-8")]
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield
        finally:
            log.handlers[0].close()
            log.handlers = before


# -- what a run came to -----------------------------------------------------------------------------------------


def _read(plan: Plan, method: Method, task: str, seed: int, reason: str | None, known: Known | None) -> Row:
    folder = plan.run_folder(task, method.name, seed)
    where = str(folder.relative_to(plan.folder))
    if reason is not None:
        return Row(task, method.name, seed, " ".join(reason.split()), folder=where)
    result, answer = read_object(folder / "result.json"), Architecture.load(folder / "architecture.json")
    figure, source = _figure(result, answer, known)
    steps = result.get("steps") or {}
    search_seconds = number(result.get("search_seconds"))
    trials = read_rows(folder / "trials.csv")
    spent = sum(number(row.get("seconds")) or 0.0 for row in trials) if trials else search_seconds
    searches = method.kind == "search"
    return Row(
        task=task,
        method=method.name,
        seed=seed,
        failed=None if figure is not None else "its result has no test accuracy",
        figure=figure,
        source=source,
        trials=steps.get("trials"),
        weights_steps=steps.get("weights"),
        arch_steps=steps.get("architecture"),
        training_seconds=spent if searches else 0.0,
        search_seconds=search_seconds if searches else 0.0,
        retrain_seconds=number(result.get("retrain_seconds")),
        params=number(result.get("params")),
        macs=number(result.get("macs")),
        cost=number(result.get("latency_predicted_ms")),
        kendall_tau=number(result.get("kendall_tau")),
        kendall_tau_macs=number(result.get("kendall_tau_macs")),
        architecture=str(answer),
        folder=where,
    )


def _figure(result: dict[str, Any], answer: Architecture, known: Known | None) -> tuple[float | None, str | None]:
    """The figure of an answer, higher is better, and where it is from: one source for all runs of a task."""
    if known is not None:
        return known.accuracy(answer.options), known.source
    accuracy, perplexity = number(result.get("test_acc")), number(result.get("test_ppl"))
    if accuracy is not None:
        return accuracy, "test accuracy of the retrained network"
    if perplexity is not None:
        return -perplexity, "minus the test perplexity of the retrained network"
    for key, name in (("test_r2", "R2"), ("test_map", "mean average precision")):
        if (figure := number(result.get(key))) is not None:
            return figure, f"test {name} of the retrained network"
    return None, None


def _curve(row: Row, folder: Path, known: Known | None) -> Curve | None:
    """The best so far of a search by trials; None for other runs."""
    import torch

    trials = read_rows(folder / "trials.csv")
    rewards = [number(trial.get("reward")) or 0.0 for trial in trials]
    if not rewards:
        return None
    places = incumbents(torch.tensor(rewards, dtype=torch.float64)).tolist()
    truth = {at: _value(trials[at], rewards[at], known) for at in set(places)}
    seconds = itertools.accumulate(number(trial.get("seconds")) or 0.0 for trial in trials)
    return Curve(row.task, row.method, row.seed, tuple(seconds), tuple(truth[at] for at in places))


def _value(trial: dict[str, str], reward: float, known: Known | None) -> float:
    return reward if known is None else known.accuracy(trial["choices"].split())
