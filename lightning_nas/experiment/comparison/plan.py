"""What a comparison runs: methods, tasks, seeds and budget, checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from lightning_nas.errors import ConfigError, InputError, shown
from lightning_nas.experiment.pairs import Parts
from lightning_nas.experiment.run import Run
from lightning_nas.files import read_json, write_json

RANDOM, RANDOM_WS = "random", "random_ws"
Kind = Literal["search", "one draw", "most parameters", "most MACs", "hand-made"]
Unit = Literal["trials", "epochs", "seconds"]
NETWORKS: dict[Kind, str] = {
    "one draw": "random_sampling",
    "most parameters": "most_params",
    "most MACs": "most_macs",
    "hand-made": "hand_made",
}
"""What nobody searched for, and the names of these methods."""
_MOST_SEEDS = 10_000
_MOST_TRIALS = 1_000_000  # where seconds end a search
_PLAIN = re.compile(r"[^\w=+-]+")


@dataclass(frozen=True)
class Method:
    """One of the compared methods.

    Attributes:
        name: of a strategy, or of a network that nobody searched for.
        kind: what it does.
    """

    name: str
    kind: Kind = "search"


@dataclass(frozen=True)
class Budget:
    """What every search may use.

    Attributes:
        unit: trials; epochs over the training data, those of all trials together; or seconds of training, measured or
            read from a table.
        amount: of it.

    Raises:
        ConfigError: it is no such budget.
    """

    unit: Unit
    amount: float

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ConfigError(f"budget.{self.unit}: there is no such budget; legal: budget.trials, .epochs, .seconds")
        whole = isinstance(self.amount, int) or self.unit == "seconds"
        number = isinstance(self.amount, int | float) and not isinstance(self.amount, bool)
        if not number or not whole or not 1 <= self.amount <= 10**9:
            legal = "a number" if self.unit == "seconds" else "a whole number"
            raise ConfigError(f"budget.{self.unit}: got {shown(self.amount)}; legal: {legal}, at least 1")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Budget:
        """The budget of ``{"trials": 100}``.

        Raises:
            ConfigError: it is missing, or not one.
        """
        if len(given) != 1:
            what = f"got {', '.join(f'budget.{unit}' for unit in given)}" if given else "it is missing"
            raise ConfigError(f"budget: {what}; legal: one of budget.trials=N, budget.epochs=N, budget.seconds=N")
        [(unit, amount)] = given.items()
        return cls(unit, amount)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.amount:,g} {self.unit}" if self.amount < 10**6 else f"{self.amount:,} {self.unit}"

    def settings(self, strategy: str, parts: Parts, epochs_of_trial: int | None) -> dict[str, dict[str, Any]]:
        """The keys of a run's configuration that give a strategy this budget, by section.

        Args:
            strategy: its name, for messages.
            parts: of the run.
            epochs_of_trial: of the training of a candidate; None for a strategy that shares weights.

        Raises:
            ConfigError: the strategy cannot be given it.
        """
        if not parts.trains_children:
            if self.unit == "trials":
                raise ConfigError(
                    f"budget.trials: {strategy} shares weights and has no trials; legal: budget.epochs, budget.seconds"
                )
            if self.unit == "epochs":
                return {"trainer": {"max_epochs": int(self.amount)}}
            return {"trainer": {"max_time": _duration(round(self.amount))}}
        if self.unit == "seconds":
            return {"strategy": {"trials": _MOST_TRIALS, "seconds": float(self.amount)}}
        trials = int(self.amount)
        if self.unit == "epochs":
            assert epochs_of_trial is not None
            trials //= epochs_of_trial
            if not trials:
                raise ConfigError(
                    f"budget.epochs={self.amount}: one trial of {strategy} takes {epochs_of_trial} epochs; legal: at "
                    "least that"
                )
        return {"strategy": {"trials": trials, "seconds": None}}


def _duration(seconds: int) -> str:
    """Seconds as Lightning's ``DD:HH:MM:SS``.

    >>> _duration(100_000)
    '01:03:46:40'
    """
    minutes, hours = seconds // 60, seconds // 3600
    return f"{hours // 24:02}:{hours % 24:02}:{minutes % 60:02}:{seconds % 60:02}"


class Maker(Protocol):
    """Makes the runs of a comparison, from a configuration or from objects."""

    def asked(self, strategy: str, task: str) -> dict[str, str]:
        """The settings of the runs of a strategy on a task, as text by key."""

    def check(self, strategy: str, task: str) -> Parts:
        """Refuse, before anything runs, what cannot run; returns the classes of its parts.

        Raises:
            ConfigError: one line that names the setting.
        """

    def run(self, strategy: str, task: str, seed: int, folder: Path) -> Run:
        """A run that resumes what is in its folder."""


@dataclass(frozen=True)
class Plan:
    """What a comparison runs.

    Attributes:
        folder: of the comparison.
        methods: in the order of the tables.
        tasks: names of the tasks: a search space with data each.
        seeds: of every method on every task, so that runs are pairs.
        budget: of every search.
        against: the method that the others are compared with.
        hand_made: the hand-made network, a name of the zoo or a file; None for none.
        left_out: usual methods that do not take part, and why.
    """

    folder: Path
    methods: tuple[Method, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: Budget
    against: str
    hand_made: str | None
    left_out: tuple[str, ...] = ()

    @property
    def searches(self) -> tuple[str, ...]:
        """The names of the methods that search."""
        return tuple(method.name for method in self.methods if method.kind == "search")

    def run_folder(self, task: str, method: str, seed: int) -> Path:
        """The folder of one run."""
        return self.folder / "runs" / _PLAIN.sub("_", task) / _PLAIN.sub("_", method) / f"seed_{seed}"


def make_plan(
    folder: Path,
    strategies: Sequence[str],
    tasks: Sequence[str],
    seeds: int | Sequence[int],
    budget: Budget,
    maker: Maker,
    *,
    against: str = RANDOM,
    hand_made: str | None = None,
    usual: Callable[[str], str | None] = lambda _: None,
) -> Plan:
    """Check what was asked for, and add the methods that belong to every comparison.

    Random search, one random draw, and the networks of most parameters and most multiply-adds; random search with
    shared weights where a strategy shares weights; a hand-made network where there is one.

    Args:
        folder: of the comparison.
        strategies: their names.
        tasks: likewise.
        seeds: their number, or themselves.
        budget: of every search.
        maker: of the runs.
        against: the method that the others are compared with.
        hand_made: a network of the zoo or a file.
        usual: the hand-made network of a task's search space, if there is one.

    Raises:
        ConfigError: one line that names the setting.
    """
    chosen = _seeds(seeds)
    if not strategies or len(set(strategies)) < len(strategies):
        raise ConfigError(f"strategies: got {shown(list(strategies))}; legal: at least one, each once")
    if clash := set(strategies) & set(NETWORKS.values()):
        raise ConfigError(f"strategies: {shown(min(clash))} is among the methods always")
    if len({_PLAIN.sub("_", name) for name in tasks}) < len(tasks):
        raise ConfigError(f"tasks: two of {shown(list(tasks))} have one folder")
    names, left_out = list(dict.fromkeys([RANDOM, *strategies])), []
    parts = {(name, task): maker.check(name, task) for name in names for task in tasks}
    if any(not found.trains_children for found in parts.values()):
        names = list(dict.fromkeys([RANDOM, RANDOM_WS, *names]))
        for task in tasks:
            maker.check(RANDOM_WS, task)
    else:
        left_out.append(f"{RANDOM_WS}: no strategy here shares weights")
    networks = {usual(task) for task in tasks}
    hand_made = hand_made or (networks.pop() if len(networks) == 1 else None)
    methods = [Method(name) for name in names]
    methods += [Method(name, kind) for kind, name in NETWORKS.items() if kind != "hand-made" or hand_made]
    if not hand_made:
        left_out.append("hand_made: the space names no hand-made network; hand_made=FILE gives one")
    if against not in names:
        raise ConfigError(f"against: got {shown(against)}; legal: one of {', '.join(names)}")
    return Plan(folder, tuple(methods), tuple(tasks), chosen, budget, against, hand_made, tuple(left_out))


def _seeds(given: int | Sequence[int]) -> tuple[int, ...]:
    """A number of seeds, from 0 on, or the seeds themselves."""
    seeds = list(range(given) if isinstance(given, int) else given if isinstance(given, Sequence) else ())
    legal = all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds) and len(set(seeds)) == len(seeds)
    if not legal or not 2 <= len(seeds) <= _MOST_SEEDS:
        raise ConfigError(
            f"seeds: got {shown(given)}; legal: a number of at least 2, as one run shows no spread, or a list of them"
        )
    return tuple(seeds)


def check_unchanged(plan: Plan, maker: Maker) -> None:
    """Compare what is asked for with what the folder's comparison began with, and write it down.

    Methods, tasks and seeds may be added or left out; what their runs are made of may not change.

    Raises:
        ConfigError: names the key.
    """
    file = plan.folder / "asked.json"
    asked = {f"{task}/{name}": maker.asked(name, task) for task in plan.tasks for name in plan.searches}
    before: Any = read_json(file) if file.exists() else {}
    if not isinstance(before, dict):
        raise InputError(f"{shown(file)} must hold an object")
    for run, settings in asked.items():
        known = before.get(run, settings)
        if known != settings:
            keys = [key for key in {**known, **settings} if known.get(key) != settings.get(key)]
            was, now = (shown(each.get(keys[0])) for each in (known, settings))
            raise ConfigError(
                f"{shown(plan.folder)} has a comparison with other settings: of {run}, {keys[0]} was {was}, is {now}; "
                "name another folder, out=FOLDER"
            )
    write_json(file, before | asked)
