"""What a search and a retraining ask of data, whatever it is made of."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_nas.data.loaders import Loader, Numbered, Position, SearchLoader, limited
from lightning_nas.data.reader import Alternate, SearchReader
from lightning_nas.data.streams import Batch
from lightning_nas.training.module import ResumableModule


class SearchData(pl.LightningDataModule, ABC):
    """Four disjoint parts ("weights", "arch", "val", "test") and loaders of them that can begin at any batch.

    Attributes:
        shape: of one example as networks are fed it, without the batch.
        num_workers: processes that prepare batches.
    """

    shape: tuple[int, ...]
    num_workers: int

    def __init__(self) -> None:
        super().__init__()
        self._score_batches: dict[tuple[int, str], tuple[list[Batch], list[Batch]]] = {}

    # -- after setup --------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """What networks tell apart: classes of images, words of a vocabulary."""

    @property
    def search_num_classes(self) -> int:
        """How many of them the search sees."""
        return self.num_classes

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Samples of each part."""

    @property
    @abstractmethod
    def found(self) -> dict[str, int]:
        """The sizes a configuration may leave to the data, by their keys of ``dataset``."""

    # -- loaders ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _training(self, name: Literal["weights", "arch"], rank: int = 0, world_size: int = 1) -> Numbered[Batch]:
        """Training batches of a part, as the search sees it.

        Raises:
            DataError: the part is smaller than a batch on all processes.
        """

    @abstractmethod
    def _calibration(self) -> Numbered[Batch]:
        """Training batches of weights and arch part together, as the search sees them."""

    @abstractmethod
    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Numbered[Batch]:
        """A whole part in order; arguments of :meth:`evaluation_loader`."""

    def _scored(self, part: Literal["val", "arch"]) -> Numbered[Batch]:
        """What architectures are scored on: a part as the search sees it, in order and without augmentation."""
        return self._in_order(part, searched=True)

    def search_loader(
        self,
        alternate: Alternate | None,
        position: Position,
        rank: int = 0,
        world_size: int = 1,
        *,
        limit: int | float = 1.0,
    ) -> SearchLoader:
        """Batches ``{"weights": ..., "arch": ...}``; with ``alternate=None`` of the weights part alone.

        Raises:
            DataError: a part is smaller than a batch on all processes.
        """
        weights = self._training("weights", rank, world_size)
        arch = self._training("arch", rank, world_size) if alternate else None
        workers = self.num_workers
        return SearchLoader(weights, arch, position, alternate=alternate or "batch", limit=limit, num_workers=workers)

    @abstractmethod
    def retrain_loader(
        self,
        position: Position,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
    ) -> Loader[Batch]:
        """Batches (x, y) of weights and arch part together; validation and test part stay untouched.

        Args:
            position: how many batches were seen so far.
            rank: of this process.
            world_size: processes.
            batch_size: another than the data set's.
            limit: Lightning's ``limit_train_batches``.
            searched: the classes of the search alone, numbered as there.

        Raises:
            DataError: fewer samples than a batch on all processes.
        """

    def evaluation_loader(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Loader[Batch]:
        """A whole part in order; with several processes a share of equally many batches for each.

        Args:
            name: of the part.
            rank: of this process.
            world_size: processes.
            searched: the classes of the search alone, numbered as there.
        """
        return Loader(self._in_order(name, rank, world_size, searched=searched), num_workers=self.num_workers)

    def score_batches(self, count: int, part: Literal["val", "arch"] = "val") -> tuple[list[Batch], list[Batch]]:
        """The same few batches at every call, of what the search sees: to recalibrate batch norm on, and to score on.

        Args:
            count: training batches, and at most so many of the part to score on.
            part: to score on, in order and without augmentation.
        """
        if (count, part) not in self._score_batches:
            training = self._calibration()
            scored = self._scored(part)
            batches = [training[t] for t in range(count)], [scored[t] for t in range(min(count, len(scored)))]
            self._score_batches[count, part] = batches
        return self._score_batches[count, part]

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
        if isinstance(module, SearchReader):
            return self.search_loader(module.alternate, lambda: module.position, *self._process, limit=limit)
        if isinstance(module, ResumableModule):
            return self.retrain_loader(lambda: module.position, *self._process, limit=limit)
        loader = self.retrain_loader(
            lambda: trainer.current_epoch * limited(len(loader), limit), *self._process, limit=limit
        )
        return loader

    def val_dataloader(self) -> Loader[Batch]:
        """The validation part; for a :class:`~lightning_nas.data.reader.SearchReader`, as the search sees it."""
        searched = self.trainer is not None and isinstance(self.trainer.lightning_module, SearchReader)
        return self.evaluation_loader("val", *self._process, searched=searched)

    def test_dataloader(self) -> Loader[Batch]:
        """The test part."""
        return self.evaluation_loader("test", *self._process)

    @property
    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
