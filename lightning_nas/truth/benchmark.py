"""What a table has of every architecture of a space, whatever its file looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError, DataError, shown
from lightning_nas.spaces.base import SearchSpace

Split = Literal["valid", "test"]
Results = Mapping[tuple[str, ...], float]
"""One number of each architecture, by its options."""


class Benchmark(ABC):
    """A table with the results of every architecture of a space.

    Args:
        space: whose architectures it has, see :meth:`has`.
        path: the file; None for the usual place.
        asked: the option that asks for the table, for messages: ``engine=table``.
        option: configuration key of the file, for messages.

    Attributes:
        title: name of the benchmark.
        members: what it has results of, in words.
        spaces: values of ``search_space`` that are served.
        datasets: names of the data sets for people, by those in configurations; the first is the usual one.
        lengths: epochs of the trainings in the table.
        usual: epochs that a search sees unless it asks for others.
        one_training: whether the lengths are parts of one training, so that a longer part goes on from a shorter one.
        needed: what to set where :meth:`place` knows no file.

    Raises:
        ConfigError: nothing says where the file is.
        DataError: there is no such file.
    """

    title: ClassVar[str]
    members: ClassVar[str]
    spaces: ClassVar[tuple[str, ...]]
    datasets: ClassVar[Mapping[str, str]]
    lengths: ClassVar[tuple[int, ...]]
    usual: ClassVar[int]
    one_training: ClassVar[bool] = False
    needed: ClassVar[str] = ""

    def __init__(self, space: SearchSpace, path: str | None, *, asked: str, option: str) -> None:
        self.space, self.asked, self.option = space, asked, option
        self.file = self.find(path, asked=asked, option=option)

    @classmethod
    @abstractmethod
    def has(cls, space: SearchSpace) -> bool:
        """Whether the table has the architectures of a space."""

    @classmethod
    @abstractmethod
    def place(cls, path: str | None) -> Path | None:
        """The file: ``path``, or the usual place; None if there is none."""

    @classmethod
    def find(cls, path: str | None, *, asked: str, option: str) -> Path:
        """The file of the table.

        Raises:
            ConfigError: nothing says where it is.
            DataError: there is no such file.
        """
        file = cls.place(path)
        if file is None:
            raise ConfigError(f"{asked} needs {cls.needed}, or {option}=FILE")
        if not file.is_file():
            raise DataError(f"there is no file {shown(file)}; pass {option}=FILE")
        return file

    @abstractmethod
    def fits(self, data: Any, dataset: str) -> bool:
        """Whether data are known to be the images of a data set of the table."""

    @abstractmethod
    def accuracies(self, dataset: str, split: Split, epochs: int) -> Results:
        """Accuracies, 0 to 1, of trainings of so many epochs.

        Raises:
            DataError: the file is no such table.
        """

    @abstractmethod
    def seen(self, dataset: str, epochs: int) -> tuple[Results, Results]:
        """What a search may see of each training: validation accuracy, 0 to 1, and seconds.

        Raises:
            DataError: the file is no such table.
        """

    @abstractmethod
    def twice(self, dataset: str, epochs: int) -> tuple[Results, Results] | None:
        """Accuracies of two trainings of each architecture that differ in their seed; None where there are none.

        Raises:
            DataError: the file is no such table.
        """

    def tested(self, dataset: str) -> Results:
        """Test accuracies, 0 to 1, at the end of the longest trainings: what an answer is worth."""
        return self.accuracies(dataset, "test", max(self.lengths))

    def tested_of(self, architecture: Architecture) -> dict[str, float]:
        """Test accuracy of one architecture, 0 to 1, by the data sets' names for people.

        Raises:
            DataError: the file is no such table.
        """
        options = self.space.validate(architecture).options
        return {name: self.tested(dataset)[options] for dataset, name in self.datasets.items()}

    def described(self) -> str:
        """What :meth:`tested` is of."""
        return f"{self.title}, {max(self.lengths)} epochs"

    def source(self, dataset: str) -> str:
        """Where :meth:`tested` is from, in words."""
        return f"{self.datasets[dataset]}, {max(self.lengths)} epochs, read from {self.title}"

    def named(self, dataset: str | None) -> str:
        """The data set that is asked for, or the usual one.

        Raises:
            ConfigError: the table has no such data set.
        """
        if dataset is not None and dataset not in self.datasets:
            raise ConfigError(
                f"{self.asked}: {self.title} has no results on {shown(dataset)}; legal for "
                f"search_space={self.space.name}: {', '.join(self.datasets)}"
            )
        return dataset or next(iter(self.datasets))

    def long(self, epochs: int | None, usual: int) -> int:
        """The length that is asked for, or the usual one.

        Raises:
            ConfigError: the table has no trainings of so many epochs.
        """
        if epochs is not None and epochs not in self.lengths:
            raise ConfigError(
                f"{self.asked}: {self.title} has no trainings of {epochs} epochs; legal for "
                f"search_space={self.space.name}: {', '.join(map(str, self.lengths))}"
            )
        return epochs or usual
