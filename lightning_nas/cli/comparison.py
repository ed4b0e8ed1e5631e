"""A comparison from names and overrides: plan, runs, files, table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_nas.cli.comparing import Overridden
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.comparison.baselines import HAND_MADE
from lightning_nas.experiment.comparison.comparison import Comparison, compare_all
from lightning_nas.experiment.comparison.on_ray import Cluster
from lightning_nas.experiment.comparison.plan import RANDOM, Budget, make_plan
from lightning_nas.experiment.comparison.terminal import as_table, below
from lightning_nas.signature import check_arguments
from lightning_nas.trials.engines.ray import check_ray


def compare_overrides(
    folder: Path,
    strategies: Sequence[str],
    seeds: int | Sequence[int],
    budget: Mapping[str, Any],
    overrides: Sequence[str],
    tasks: Mapping[str, Sequence[str]],
    own: Mapping[str, Sequence[str]],
    *,
    against: str | None,
    hand_made: str | None,
    command: Sequence[str],
    say: Callable[[str], None],
    cluster: Cluster | None = None,
) -> Comparison:
    """Make a comparison and write its files.

    Args:
        folder: of the comparison.
        strategies: names of presets.
        seeds: their number, or themselves.
        budget: one amount by its unit.
        overrides: of all runs.
        tasks: further overrides by task.
        own: further overrides by strategy.
        against: the method that the others are compared with; None for random search.
        hand_made: a name of the zoo or a file; None for that of the space.
        command: that makes the comparison again.
        say: told a line after each run.
        cluster: where the runs are made; None for this process.

    Raises:
        InputError: something asked for cannot be done; before anything runs.
        NumericalError: every run failed.
    """
    amount = Budget.of(budget)
    maker = Overridden(folder, overrides, tasks, own, amount)
    plan = make_plan(
        *(folder, strategies, list(tasks), seeds, amount, maker),
        against=against or RANDOM,
        hand_made=hand_made,
        usual=lambda task: HAND_MADE.get(maker.space_name(task)),
    )
    maker.check_own(plan.searches)
    made = compare_all(plan, maker, command, say, cluster)
    maker.log(made)
    return made


def cluster_of(asked: Mapping[str, Any]) -> Cluster | None:
    """The Ray cluster of a comparison; None if its runs are made in this process.

    Args:
        asked: values by key, ``ray``, ``cpus`` and ``gpus`` among them, where they were given.

    Raises:
        ConfigError: one of them is illegal, or Ray is not installed.

    Example:
        >>> cluster_of({}) is None, cluster_of({"ray": "auto", "gpus": 0.5}).needs
        (True, {'CPU': 1.0, 'GPU': 0.5})
    """
    needs = {name: asked[name] for name in ("cpus", "gpus") if asked.get(name) is not None}
    if asked.get("ray") is None:
        if needs:
            raise ConfigError(f"{min(needs)}: it goes with ray=local, ray=auto or ray=HOST:PORT")
        return None
    check_ray(f"ray={asked['ray']}", "leave it out")
    check_arguments(Cluster, [asked["ray"]], needs)
    return Cluster(asked["ray"], **needs)


def show(made: Comparison) -> None:
    """Print the table, as wide as it is, and the sentences below it."""
    console, table = Console(markup=False, emoji=False), as_table(made.plan, made.findings)
    widest = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, widest)
    console.print(table)
    for line in below(made.plan, made.findings):
        console.print(line, soft_wrap=True)
    console.print(f"written to {made.folder / 'comparison.html'}, comparison.csv, comparison.json", soft_wrap=True)
