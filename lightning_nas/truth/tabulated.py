"""The truth of a rank check from a table, and the table of a space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.truth.benchmark import Benchmark, Split
from lightning_nas.truth.nasbench201 import NASBench201
from lightning_nas.truth.tiny import TinyTable

BENCHMARKS: tuple[type[Benchmark], ...] = (NASBench201, TinyTable)
TabulatedData = Literal["cifar10", "cifar100", "imagenet16", "tiny"]
TabulatedEpochs = Literal[12, 200, 1, 2, 3, 4]
_ASKED, _OPTION = "rank_check.truth=table", "callbacks.rank_check.truth.path"


class TabulatedTruth(Checked):
    """Accuracy of each architecture in the table of its space, without training.

    The accuracy is that of the table's network on the table's data, whatever the size of the searched network. A search
    on other data is refused unless ``any_data`` says that this is meant.

    Args:
        path: file of the table; None for ``nasbench201.npz`` in the folder $LIGHTNING_NAS_DATA, and for the table of
            ``tiny`` that comes with the library.
        dataset: data set of the accuracy; None for the table's usual one: "cifar10" of NAS-Bench-201, which also has
            "cifar100" and "imagenet16"; "tiny" of ``tiny``.
        split: images on which the accuracy was measured.
        epochs: length of the trainings; None for the longest: 200 of NAS-Bench-201, which also has 12; 4 of ``tiny``.
        any_data: rank a search on any data: a file or folder with the images of ``dataset``, or other images, for which
            the correlation shows how well the ranking transfers.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        dataset: TabulatedData | None = None,
        split: Split = "test",
        epochs: TabulatedEpochs | None = None,
        any_data: bool = False,
    ) -> None:
        self.path, self.dataset, self.split, self.epochs, self.any_data = path, dataset, split, epochs, any_data

    def __call__(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: Any, task: Any, seed: int
    ) -> list[float]:
        """The tabulated accuracies, 0 to 1, in order.

        Raises:
            ConfigError: another search space, other data or another task, a data set or length that the table does not
                have, or nothing says where the table is.
            DataError: the file is missing or is not such a table.
        """
        del seed
        table, dataset, epochs = self._asked(space, data, task)
        found = table.accuracies(dataset, self.split, epochs)
        return [found[space.validate(architecture).options] for architecture in architectures]

    def again(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: Any, task: Any, seed: int
    ) -> tuple[list[float], list[float]] | None:
        """The accuracies of two trainings that differ in their seed, see the table's ``twice``."""
        del seed
        table, dataset, epochs = self._asked(space, data, task)
        both = table.twice(dataset, epochs)
        chosen = [space.validate(architecture).options for architecture in architectures]
        return both and ([both[0][options] for options in chosen], [both[1][options] for options in chosen])

    def _asked(self, space: SearchSpace, data: Any, task: Any) -> tuple[Benchmark, str, int]:
        """The table, the data set and the epochs."""
        instead = "rank_check.truth=stand_alone"
        if task is not None and task.score_name != "acc":
            raise ConfigError(f"{_ASKED} has accuracies, and the task asks for {task.score_name}; choose {instead}")
        table = open_table(space, self.path, asked=_ASKED, option=_OPTION, instead=instead)
        dataset = table.named(self.dataset)
        if not self.any_data and not table.fits(data, dataset):
            raise ConfigError(_other_data(table, dataset, data))
        return table, dataset, table.long(self.epochs, max(table.lengths))


def _other_data(table: Benchmark, dataset: str, data: Any) -> str:
    same = "" if dataset == "imagenet16" else f"dataset={dataset}, "
    return (
        f"{_ASKED} has accuracies on {table.datasets[dataset]}, but the search is on {type(data).__name__}; "
        f"choose {same}rank_check.truth=stand_alone, or callbacks.rank_check.truth.any_data=true for the same images "
        "from another source, or to see how well a ranking transfers"
    )


def open_table(space: SearchSpace, path: str | None, *, asked: str, option: str, instead: str) -> Benchmark:
    """The table that has a space's architectures.

    Args:
        space: of the architectures.
        path: file of the table; None for its usual place.
        asked: the option that asks for it, for messages.
        option: configuration key of the file, for messages.
        instead: an option for spaces without a table, for messages.

    Raises:
        ConfigError: no table has this space, or nothing says where its file is.
    """
    found = benchmark_of(space)
    if found is None:
        what = " and ".join(benchmark.members for benchmark in BENCHMARKS)
        *most, last = (name for benchmark in BENCHMARKS for name in benchmark.spaces)
        raise ConfigError(
            f"{asked} has only {what}, not search_space={space.name}; "
            f"choose search_space={', '.join(most)} or {last}, or {instead}"
        )
    return found(space, path, asked=asked, option=option)


def benchmark_of(space: SearchSpace) -> type[Benchmark] | None:
    """The benchmark that has a space's architectures; None if there is none."""
    return next((benchmark for benchmark in BENCHMARKS if benchmark.has(space)), None)


def known_table(space: SearchSpace, path: str | None) -> Benchmark | None:
    """The table that has a space's architectures, if it is at hand."""
    found = benchmark_of(space)
    file = found.place(path) if found else None
    if found is None or file is None or not file.exists():
        return None
    return found(space, path, asked="engine=table", option="engine.path")
