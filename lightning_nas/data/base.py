"""Base class of data for a search and for retraining, of images or of text."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl

from lightning_nas.data.loaders import Loader, Numbered, ReadPosition, SearchLoader, from_the_start, limited
from lightning_nas.data.options import LoadingOptions, option
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.reader import Alternate, SearchReader
from lightning_nas.data.streams import Batch
from lightning_nas.data.targets import WORDS, Scale
from lightning_nas.errors import DataError
from lightning_nas.processes import check_processes
from lightning_nas.ranges import Targets
from lightning_nas.signature import Checked
from lightning_nas.training.module import ResumableModule

log = logging.getLogger(__name__)

_KEPT = 2**29  # bytes of batches that score architectures


class SearchData(Checked, pl.LightningDataModule, ABC):
    """A LightningDataModule with four disjoint parts whose loaders can begin at any batch.

    "weights" trains the shared weights of a search and "arch" its architecture parameters, "val" scores architectures,
    "test" is read once at the end. Retraining uses weights and arch parts together.

    Attributes:
        shape: of one network input without the batch: (C, H, W) of images, (T,) of text; known after ``setup``.
        num_workers: processes that prepare batches.
        augmentation: how training samples are changed at random, in words; "" where it is not known.
        doubts: what may be wrong with the data, in words; known after ``setup``.
        for_search: whether ``setup`` refuses data that are too few for the parts of a search. Without a search
            (retraining, test) only what trains one network must be there, and the test part.
        pin_memory: copy batches into page-locked memory; None does so where there is a GPU.
        persistent_workers: keep worker processes from epoch to epoch.
        offers: kinds of targets that the data can have; None for those that are not checked, except numbers and labels.
        targets: kind of the targets, as the task of the run needs it; set by :meth:`expect`.
        scale: mean and standard deviation of each target, where targets are numbers; known after ``setup``, unless it
            was given before.
    """

    offers: ClassVar[tuple[Targets, ...] | None] = None
    targets: Targets = "classes"
    scale: Scale | None = None

    shape: tuple[int, ...]
    num_workers: int
    augmentation: str = ""
    for_search: bool = True
    pin_memory: bool | None = None
    persistent_workers: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.doubts: list[str] = []
        self._calibrating: list[Batch] = []
        self._scoring: dict[tuple[int | None, str], Iterable[Batch]] = {}

    def expect(self, targets: Targets) -> None:
        """Say before ``setup`` what the targets must be: those of the task.

        Raises:
            DataError: the data have others, or were set up for others.
        """
        if targets == self.targets:
            return
        name = type(self).__name__
        if self.is_set_up:
            raise DataError(
                f"the task needs {WORDS[targets]}, and {name} was set up with {WORDS[self.targets]}; legal: "
                f"data.expect({targets!r}) before data.setup()"
            )
        if targets not in (self.offers or ("classes", "words")):
            has = " or ".join(WORDS[kind] for kind in self.offers or ("words",))
            raise DataError(
                f"the task needs {WORDS[targets]}, and {name} has {has}; legal: dataset=npz, or arrays and loaders of "
                "your own, with such targets"
            )
        self.targets = targets

    # -- after setup --------------------------------------------------------------------------------------------

    @property
    def is_set_up(self) -> bool:
        """Whether ``setup`` has read the data, as far as that is known."""
        return False

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Width of the networks' output: classes of images, numbers or labels a sample, words of the vocabulary."""

    @property
    def search_num_classes(self) -> int:
        """Width of the output of the searched networks: the classes that the search sees."""
        return self.num_classes

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Number of samples of each part, by name."""

    @property
    @abstractmethod
    def found(self) -> dict[str, int | list[int]]:
        """Sizes that are None in the constructor and found in the data, by the constructor's names."""

    def digest(self) -> str:
        """Hexadecimal digest of the contents of the data, which a resume compares; "" where they are not known."""
        return ""

    def doubt(self, words: str) -> None:
        """Warn of something that may be wrong with the data, and keep the words for the report."""
        if words not in self.doubts:
            self.doubts.append(words)
            log.warning("data: %s", words)

    def preprocessing(self) -> Preprocessing:
        """What turns a picture or a text into a network's input, to be kept with a trained network.

        Data of a person's own say only shape and classes, since their transform is code.
        """
        numbers = [str(number) for number in range(self.num_classes)]
        return Preprocessing(kind="own", input_shape=list(self.shape), classes=numbers, **self._outputs())

    def _outputs(self) -> dict[str, Any]:
        """What the outputs of a network are, for :meth:`preprocessing`."""
        if self.scale is None:
            return {"outputs": self.targets}
        return {"outputs": "numbers", "target_mean": self.scale.mean.tolist(), "target_std": self.scale.std.tolist()}

    def as_option(self, name: str, value: int) -> str:
        """A setting as an error message names it: by the option that a person can change."""
        return option(name, str(value))

    # -- loaders ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _training(
        self, name: Literal["weights", "arch", "searched"], rank: int = 0, world_size: int = 1
    ) -> Numbered[Batch]:
        """Training batches of a part, with the classes that the search sees; "searched" is weights and arch together.

        Raises:
            DataError: the part is smaller than one batch of all processes.
        """

    @abstractmethod
    def _calibration(self) -> Numbered[Batch]:
        """Training batches of the weights and arch parts together, with the classes that the search sees."""

    @abstractmethod
    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Numbered[Batch]:
        """A whole part in order; arguments as in :meth:`evaluation_loader`."""

    def _scored(self, part: Literal["val", "arch"]) -> Numbered[Batch]:
        """The part that scores architectures, in order and without augmentation, with the classes of the search."""
        return self._in_order(part, searched=True)

    def search_loader(
        self,
        alternate: Alternate | None,
        position: ReadPosition,
        rank: int = 0,
        world_size: int = 1,
        *,
        held_out: bool = False,
        limit: int | float = 1.0,
    ) -> SearchLoader:
        """Batches ``{"weights": (x, y), "arch": (x, y)}`` of a search.

        Args:
            alternate: "batch" or "epoch", see :class:`~lightning_nas.data.loaders.SearchLoader`; None gives weights
                batches alone.
            position: returns how many batches were seen so far.
            rank: of this process.
            world_size: number of processes.
            held_out: with None, whether the weights do not see the arch part; else they get both parts together.
            limit: Lightning's ``limit_train_batches``.

        Raises:
            DataError: a part is smaller than one batch of all processes.
        """
        weights = self._training("weights" if alternate or held_out else "searched", rank, world_size)
        arch = self._training("arch", rank, world_size) if alternate else None
        return SearchLoader(weights, arch, position, alternate=alternate or "batch", limit=limit, **self._loading)

    @abstractmethod
    def retrain_loader(
        self,
        position: ReadPosition,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
    ) -> Loader[Batch]:
        """Batches (x, y) of the weights and arch parts together, for training one network.

        Args:
            position: returns how many batches were seen so far.
            rank: of this process.
            world_size: number of processes.
            batch_size: None for that of the data set.
            limit: Lightning's ``limit_train_batches``.
            searched: only the classes of the search, numbered as in the search.

        Raises:
            DataError: fewer samples than one batch of all processes.
        """

    def evaluation_loader(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Loader[Batch]:
        """A whole part in order, without augmentation; several processes get equally many batches each.

        Args:
            name: of the part.
            rank: of this process.
            world_size: number of processes.
            searched: only the classes of the search, numbered as in the search.
        """
        return self._loader(self._in_order(name, rank, world_size, searched=searched))

    def _loader(
        self, batches: Numbered[Batch], position: ReadPosition = from_the_start, limit: int | float = 1.0
    ) -> Loader[Batch]:
        return Loader(batches, position, limit=limit, **self._loading)

    @property
    def _loading(self) -> LoadingOptions:
        check_processes(self.as_option("num_workers", self.num_workers), self.num_workers)
        return {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.persistent_workers,
        }

    def calibration_batches(self, count: int) -> list[Batch]:
        """Training batches to recalibrate batch norm on, the same at every call.

        Args:
            count: number of batches.
        """
        made = self._calibrating
        if len(made) < count:
            training = self._calibration()
            made += [training[t] for t in range(len(made), count)]
        return made[:count]

    def score_batches(self, count: int | None = None, part: Literal["val", "arch"] = "val") -> Iterable[Batch]:
        """Batches to score architectures on, in order and without augmentation, the same at every call.

        They are kept in memory up to half a gigabyte, and read again at every call beyond that.

        Args:
            count: at most that many batches; None for the whole part.
            part: to score on.
        """
        if (count, part) not in self._scoring:
            batches = self._scored(part)
            limit = len(batches) if count is None else min(count, len(batches))
            small = limit * sum(tensor.nbytes for tensor in batches[0]) <= _KEPT
            kept = [batches[t] for t in range(limit)] if small else self._loader(batches, limit=limit)
            self._scoring[count, part] = kept
        return self._scoring[count, part]

    # -- Lightning's hooks --------------------------------------------------------------------------------------

    def train_dataloader(self) -> Loader[Any]:
        """The loader that the trainer's module asks for.

        A :class:`~lightning_nas.data.reader.SearchReader` gets search batches, any other module pairs (x, y) of the
        weights and arch parts together. Both begin at the ``position`` of a module that can be resumed, and at the
        trainer's epoch for an ordinary LightningModule.
        """
        trainer = self.trainer
        assert trainer is not None, "a trainer asks for it"
        module, limit = trainer.lightning_module, trainer.limit_train_batches
        loader: Loader[Any]
        if isinstance(module, SearchReader):
            loader = self.search_loader(
                module.alternate,
                lambda: module.position,
                *self._process,
                held_out=module.holds_out_arch,
                limit=limit,
            )
        elif isinstance(module, ResumableModule):
            loader = self.retrain_loader(lambda: module.position, *self._process, limit=limit)
        else:
            loader = self.retrain_loader(
                lambda: trainer.current_epoch * limited(len(loader), limit), *self._process, limit=limit
            )
        return loader.overfitted(trainer.overfit_batches)  # type: ignore[attr-defined]

    def val_dataloader(self) -> Loader[Batch]:
        """The validation part; for a :class:`~lightning_nas.data.reader.SearchReader`, as the search sees it."""
        searched = self.trainer is not None and isinstance(self.trainer.lightning_module, SearchReader)
        return self.evaluation_loader("val", *self._process, searched=searched)

    def test_dataloader(self) -> Loader[Batch]:
        """The test part in order."""
        return self.evaluation_loader("test", *self._process)

    @property
    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
