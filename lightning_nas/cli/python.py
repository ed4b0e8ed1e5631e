"""Runs from a person's own Python: names pick presets of ``conf/``, objects are used as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.cli.composed import Composed, Strategy
from lightning_nas.cli.names import default_folder
from lightning_nas.experiment.run import Run as ExperimentRun
from lightning_nas.spaces.base import SearchSpace

if TYPE_CHECKING:
    from lightning_nas.experiment.comparison.comparison import Comparison


class Run(ExperimentRun):
    """One search in one folder: everything the command line does, as a value.

    The same parts and seed give the same bits as ``lightning-nas run``. Every further keyword is a key of the
    configuration: a string picks a preset of ``conf/<key>/``, a mapping changes keys of the preset that is there, and
    anything else is used as it is.

    Args:
        folder: of everything the run writes; one process at a time.
        data: a preset ("digits"), a LightningDataModule, DataLoaders, or arrays: ``(x, y)`` or
            ``(x_train, y_train, x_test, y_test)``; see :func:`~lightning_nas.data.given.as_search_data`.
        space: a preset ("fbnet_small") or a search space; None for the strategy's own preset.
        strategy: a preset ("fbnet"), a strategy class such as ``ln.FBNet``, a ``functools.partial`` of one, or a
            strategy that was made already.
        seed: of everything random.
        settings: further keys of the configuration, such as ``trainer={"max_epochs": 20}``,
            ``retrain={"epochs": 5}``, ``latency_table="macs"``, ``logger="csv"``, ``stages=["search"]``,
            ``threads=None``. Objects may be: ``latency_table`` (a :class:`~lightning_nas.latency.table.LatencyTable`),
            ``callbacks`` and ``logger`` (lists), ``task`` (a :class:`~lightning_nas.tasks.base.Task`).

    Raises:
        InputError: something is no part of a run, or the parts do not fit; one line that says what is legal.

    Example:
        >>> import tempfile
        >>> short = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
        >>> run = Run(tempfile.mkdtemp(), data="digits", space="fbnet_small", strategy="random_ws", trainer=short,
        ...           latency_table="none", callbacks="none", logger="none")
        >>> architecture = run.search()
        >>> len(architecture.options)
        6
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        data: Any = "digits",
        space: str | SearchSpace | None = None,
        strategy: str | type[Strategy] | Callable[..., Strategy] | Strategy = "fbnet",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**Composed(Path(folder), data, space, strategy, seed, settings).parts())


def search(
    data: Any,
    space: str | SearchSpace | None = None,
    strategy: str | type[Strategy] | Callable[..., Strategy] | Strategy = "fbnet",
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> Architecture:
    """Search in one call.

    Args:
        data: as :class:`Run`.
        space: likewise.
        strategy: likewise.
        folder: of the run; ``outputs/<date>/<time>`` unless given.
        settings: further arguments of :class:`Run`.

    Returns:
        The answer.

    Raises:
        NasError: as :class:`Run` and its :meth:`~lightning_nas.experiment.run.Run.search`.

    Example:
        >>> import tempfile
        >>> short = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
        >>> quiet = {"latency_table": "none", "callbacks": "none", "logger": "none"}
        >>> search("digits", "fbnet_small", "random_ws", folder=tempfile.mkdtemp(), trainer=short, **quiet).space
        'fbnet_small'
    """
    return Run(folder or default_folder(), data=data, space=space, strategy=strategy, **settings).search()


def retrain(
    architecture: Architecture | str,
    data: Any,
    space: str | SearchSpace,
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> nn.Module:
    """Train the network of an architecture from scratch in one call, and test it.

    Args:
        architecture: itself, a zoo name, or a file.
        data: as :class:`Run`.
        space: of the architecture, likewise.
        folder: of the run; ``outputs/<date>/<time>`` unless given.
        settings: further arguments of :class:`Run`.

    Returns:
        The trained network.

    Raises:
        NasError: as :class:`Run` and its :meth:`~lightning_nas.experiment.run.Run.retrain`.

    Example:
        >>> import tempfile
        >>> from lightning_nas.spaces.chains.fbnet import FBNetSpace
        >>> space = FBNetSpace(image_size=8, in_channels=1, num_classes=10, stages=[(16, 1, 1)], stem=(16, 1), head=32)
        >>> quiet = {"callbacks": "none", "logger": "none"}
        >>> chosen = space.validate({"layer_01": "k3_e1"})
        >>> network = retrain(chosen, "digits", space, folder=tempfile.mkdtemp(), retrain={"epochs": 1}, **quiet)
    """
    name = "random_ws" if isinstance(space, str) else "random"
    run = Run(folder or default_folder(), data=data, space=space, strategy=name, stages=["retrain"], **settings)
    return run.retrain(architecture)


def compare(
    strategies: Sequence[str],
    *,
    seeds: int | Sequence[int] = 10,
    budget: Mapping[str, float],
    folder: str | Path | None = None,
    against: str | None = None,
    hand_made: str | None = None,
    overrides: Sequence[str] = (),
    ray: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare strategies on equal terms, as ``lightning-nas compare`` does.

    Random search, one random draw, the networks of most parameters and most multiply-adds, random search with shared
    weights (where a strategy shares weights) and a hand-made network (where there is one) take part always. A finished
    run in the folder is not made again; a failed one is counted and named.

    Args:
        strategies: names of presets, ``["evolution", "darts"]``.
        seeds: their number, or themselves; the same for every method.
        budget: of every search: ``{"trials": 100}``, ``{"epochs": 30}`` or ``{"seconds": 600}``.
        folder: of the comparison; ``comparisons/<date>/<time>`` unless given.
        against: the method that the others are compared with; None for random search.
        hand_made: an architecture file or a name of the zoo; None for that of the space, if it has one.
        overrides: further keys as on the command line: ``["search_space=nasbench201", "engine=table"]``. Several values
            are several tasks: ``"dataset=digits,fashion_mnist"``.
        ray: spread the runs over a Ray cluster: "local" for one of this machine, "auto", or HOST:PORT. None makes them
            in this process, one after another.
        cpus: CPUs of each run on the cluster; None for 1.
        gpus: GPUs of each run on the cluster; None for none.
        say: told a line after each run; None for silence.

    Returns:
        Its ``rows`` (one a run), ``findings`` (figures by method) and ``folder``.

    Raises:
        InputError: something asked for cannot be done; before anything runs.
        NumericalError: every run failed.

    Example:
        >>> compare(["evolution"], seeds=1, budget={"trials": 20})
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: seeds: got 1; legal: a number of at least 2, as one run shows no spread, ...
    """
    from lightning_nas.cli.compare import Asked, new_folder, sort_overrides
    from lightning_nas.cli.comparison import cluster_of, compare_overrides

    asked, place = Asked(), Path(folder or new_folder())
    sort_overrides(asked, overrides)
    named = {"against": against, "hand_made": hand_made, "ray": ray, "cpus": cpus, "gpus": gpus}
    command = [f"strategies=[{','.join(strategies)}]", f"seeds={seeds if isinstance(seeds, int) else [*seeds]}"]
    command += [f"budget.{unit}={amount}" for unit, amount in budget.items()]
    command += [f"{key}={value}" for key, value in named.items() if value is not None]
    return compare_overrides(
        *(place, strategies, seeds, budget, asked.overrides, asked.tasks, asked.own),
        against=against,
        hand_made=hand_made,
        command=["lightning-nas", "compare", *command, *overrides, f"out={place}"],
        say=say or (lambda _: None),
        cluster=cluster_of(named),
    )
