"""``lightning-nas compare strategies=[...] seeds=10 budget.trials=100 ...``: several strategies on equal terms."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_nas.cli.arguments import asks_for_help
from lightning_nas.errors import ConfigError, shown

_USAGE = """\
lightning-nas compare strategies=[NAME,...] seeds=N budget.UNIT=N [out=FOLDER] [KEY=VALUE ...]

Runs every strategy with the same seeds, data, search space and budget, and says which differ. Random search, one
random draw, the networks of most parameters and most multiply-adds, random search with shared weights (where a
strategy shares weights) and a hand-made network (where there is one) take part always.
  strategies=[evolution,local_search]   the searches, see lightning-nas list strategies
  seeds=10                              0 to 9; or a list: seeds=[3,5,8]
  budget.trials=100                     of every search; or budget.epochs=30, of all trials together; or
                                        budget.seconds=600, of training, as measured or as a table says
  out=FOLDER                            the same command with the same folder goes on where it stopped
  against=random                        the method that the others are compared with
  hand_made=FILE                        an architecture, or a name of the zoo
  ray=auto                              spread the runs over a Ray cluster: local, auto or HOST:PORT; each run gets
                                        cpus=1 gpus=0
  search_space=nasbench201 engine=table any key of a run; engine.* and child.* reach searches by trials alone,
                                        rank_check.* those that share weights
  dataset=digits,fashion_mnist          several values are several tasks, each combination one
  evolution.population=20               a key of one strategy; also darts.trainer.precision=..., of its runs
FOLDER has comparison.csv, comparison.json, comparison.html and the folders of the runs."""
_OWN = ("strategies", "seeds", "against", "hand_made", "out", "ray", "cpus", "gpus")
_NEEDED = {"strategies": "strategies=[evolution]", "seeds": "seeds=10", "budget": "budget.trials=100"}


@dataclass
class Asked:
    """A command line, read.

    Attributes:
        values: of the comparison's own keys.
        budget: amounts by unit.
        overrides: of all runs.
        tasks: overrides of each task.
        own: overrides of single strategies.
    """

    values: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    tasks: dict[str, list[str]] = field(default_factory=dict)
    own: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> None:
    """Make a comparison and print its table.

    Raises:
        InputError: something asked for cannot be done; before anything runs.
        NumericalError: every run failed.
    """
    if asks_for_help(arguments):
        print(_USAGE)
        return
    asked = read(arguments)
    folder = Path(asked.values.get("out") or new_folder()).expanduser()
    given = [text for text in arguments if not text.startswith("out=")]

    from lightning_nas.cli.comparison import cluster_of, compare_overrides, show

    cluster = cluster_of(asked.values)
    try:
        made = compare_overrides(
            *(folder, asked.values["strategies"], asked.values["seeds"], asked.budget),
            *(asked.overrides, asked.tasks, asked.own),
            against=asked.values.get("against"),
            hand_made=asked.values.get("hand_made"),
            command=["lightning-nas", "compare", *given, f"out={folder}"],
            say=print,
            cluster=cluster,
        )
    except KeyboardInterrupt:  # between two runs; a run at work ends after its checkpoint
        raise SystemExit(130) from None
    show(made)


def new_folder() -> str:
    """The folder of a comparison that was given none."""
    return datetime.now().strftime("comparisons/%Y-%m-%d/%H-%M-%S")


def read(arguments: Sequence[str]) -> Asked:
    """Sort the arguments: the comparison's own, those of all runs, of tasks, and of single strategies.

    Raises:
        ConfigError: one cannot be read, is given twice, or a needed one is missing.

    Example:
        >>> asked = read(["strategies=[darts]", "seeds=3", "budget.epochs=2", "dataset=a,b", "darts.arch_every=2"])
        >>> asked.values, asked.budget, asked.own
        ({'strategies': ['darts'], 'seeds': 3}, {'epochs': 2}, {'darts': ['strategy.arch_every=2']})
        >>> asked.tasks
        {'a': ['dataset=a'], 'b': ['dataset=b']}
    """
    asked, others = Asked(), list[str]()
    for override in _parsed(arguments):
        key, text = override.get_key_element().lstrip("+~"), override.input_line or ""
        if key not in _OWN and not key.startswith("budget."):
            others.append(text)
            continue
        place, name = (asked.values, key) if key in _OWN else (asked.budget, key.removeprefix("budget."))
        if name in place:
            raise ConfigError(f"{key}: it is given twice")
        if override.is_sweep_override():
            raise ConfigError(f"{shown(text)}: several values are written {key}=[...]")
        place[name] = override.value()
    for key, example in _NEEDED.items():
        if not (asked.budget if key == "budget" else key in asked.values):
            raise ConfigError(f"{key}: it is missing, e.g. {example}; see lightning-nas compare --help")
    for key in ("against", "hand_made", "out", "ray"):
        if not isinstance(asked.values.get(key, ""), str):
            raise ConfigError(f"{key}: got {shown(asked.values[key])}; legal: text")
    if not isinstance(names := asked.values["strategies"], list):
        raise ConfigError(f"strategies: got {shown(names)}; legal: a list, strategies=[evolution,darts]")
    asked.values["strategies"] = [str(name) for name in names]
    sort_overrides(asked, others)
    return asked


def sort_overrides(asked: Asked, overrides: Sequence[str]) -> None:
    """Add the overrides of all runs, of each task and of single strategies.

    Raises:
        ConfigError: one cannot be read.
    """
    from lightning_nas.cli.presets import groups, names

    sections, strategies = {*groups(), "resume"}, names("strategy")
    swept = list[list[tuple[str, str]]]()
    for override in _parsed(overrides):
        whole, text = override.get_key_element(), override.input_line or ""
        key = whole.lstrip("+~")
        name, _, rest = key.partition(".")
        if override.is_sweep_override():
            swept.append([(value, f"{whole}={value}") for value in override.sweep_string_iterator()])
        elif rest and name in strategies:
            inside = rest if rest.partition(".")[0] in sections else f"strategy.{rest}"
            asked.own.setdefault(name, []).append(text.replace(key, inside, 1))
        else:
            asked.overrides.append(text)
    for chosen in itertools.product(*swept):
        name = "-".join(value for value, _ in chosen) or _task(asked.overrides)
        asked.tasks[name] = [text for _, text in chosen]


def _parsed(arguments: Sequence[str]) -> Iterator[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException, OverrideParseException

    if flags := [text for text in arguments if text.startswith("-")]:
        raise ConfigError(f"{shown(flags[0])}: compare takes KEY=VALUE and no flags; see lightning-nas compare --help")
    try:
        yield from OverridesParser.create().parse_overrides(list(arguments))
    except OverrideParseException as reason:
        raise ConfigError(f"cannot read {shown(reason.override)}; legal: KEY=VALUE such as seeds=10") from None
    except HydraException as reason:
        raise ConfigError(f"cannot read the arguments: {shown(str(reason), 200)}") from None


def _task(overrides: Sequence[str]) -> str:
    """The name of the only task: its space and data, as far as they are named."""
    given: Mapping[str, str] = dict(text.lstrip("+~").partition("=")[::2] for text in overrides)
    named = [given[key] for key in ("search_space", "engine.dataset", "dataset") if key in given]
    return "-".join(named) or "default"


if __name__ == "__main__":
    main(sys.argv[1:])
