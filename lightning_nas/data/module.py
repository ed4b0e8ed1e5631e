"""A LightningDataModule with four disjoint parts: weights, arch, val, test."""

import logging
from abc import abstractmethod
from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import NonNegativeInt, PositiveInt

from lightning_nas.data.base import SearchData
from lightning_nas.data.checks import check_shape, count_classes
from lightning_nas.data.loaders import Loader, Position
from lightning_nas.data.parts import Parts
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.split import Images, divide
from lightning_nas.data.streams import Batch, Batches

log = logging.getLogger(__name__)


class ImageData(SearchData):
    """Labelled images for a search, for retraining and for the test, never mixed.

    The test part is the data set's own or ``test_fraction`` of the training images; so is the validation part; of the
    rest ``arch_fraction`` trains architecture parameters and the others the weights. A network found is retrained on
    both, and on what ``search_fraction`` left out. Every class is divided in these shares. The division, the order and
    the augmentation are functions of ``seed`` alone.

    A subclass says where images come from (:meth:`load`) and what is done to them (:meth:`transforms`).

    Args:
        batch_size: images of one batch of one process.
        arch_fraction: share of the search's images that trains the architecture.
        val_fraction: share of the training images for validation, if the data set has no such part.
        test_fraction: share of the training images for the test, if the data set has no such part.
        seed: of the division, the order and the augmentation.
        num_workers: processes that prepare batches; they change nothing but the speed.
        image_size: height and width; None takes what the data have.
        channels: likewise.
        num_classes: likewise.
        search_classes: search on this many classes, chosen by the seed, as FBNet does on ImageNet
            (arXiv:1812.03443, section 4.1); retraining and the test have all. None searches on all.
        search_fraction: share of the training images that the search sees, as PC-DARTS has it on ImageNet
            (arXiv:1907.05737, section 4.3); retraining has all.
    """

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        arch_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        val_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        test_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        seed: int = 0,
        num_workers: NonNegativeInt = 0,
        image_size: PositiveInt | None = None,
        channels: PositiveInt | None = None,
        num_classes: PositiveInt | None = None,
        search_classes: PositiveInt | None = None,
        search_fraction: Annotated[float, Interval(gt=0, le=1)] = 1.0,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.arch_fraction, self.val_fraction, self.test_fraction = arch_fraction, val_fraction, test_fraction
        self.image_size, self.channels, self.search_classes = image_size, channels, search_classes
        self._num_classes, self.search_fraction = num_classes, search_fraction
        self._parts: Parts | None = None

    @abstractmethod
    def load(self) -> Images:
        """The images, with labels counted from 0.

        Raises:
            DataError: they are missing or not usable.
        """

    @abstractmethod
    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        """What is done to training images, and to all others.

        Args:
            part: the images of the search; statistics must be taken from these alone.
        """

    # -- after setup --------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Load, check and divide the data; once, whatever the stage.

        Raises:
            DataError: the data cannot be read or used, or a part is too small.
        """
        if self._parts:
            return
        images = self.load()
        self._num_classes = count_classes(images.labels, self._num_classes)
        shares = {"test": self.test_fraction, "val": self.val_fraction, "arch": self.arch_fraction}
        cut = divide(images, **shares, search=self.search_fraction, seed=self.seed)
        everything = Parts(cut, *self.transforms(cut["retrain"]), self.seed, self.batch_size)
        first, _ = everything.in_order("retrain").samples[0, 0]
        self.shape = check_shape(tuple(first.shape), self.image_size, self.channels)
        searched = everything
        if self.search_classes:
            searched = everything.of_classes(self.search_classes, self._num_classes)
        for name in ("weights", "arch") if self.arch_fraction else ("weights",):
            searched.shuffled(name)
        for name in ("val", "test"):
            searched.in_order(name)
        self._parts, self._searched = everything, searched
        log.info("parts of the data: %s", ", ".join(f"{name} {size}" for name, size in self.sizes.items()))

    @property
    def num_classes(self) -> int:
        """Classes of the data set."""
        assert self._num_classes is not None, "setup() reads the data"
        return self._num_classes

    @property
    def found(self) -> dict[str, int]:
        channels, height, _ = self.shape
        return {"image_size": height, "channels": channels, "num_classes": self.num_classes}

    @property
    def search_num_classes(self) -> int:
        """Classes the search sees."""
        return self.search_classes or self.num_classes

    @property
    def sizes(self) -> dict[str, int]:
        """Images of each part; with ``search_fraction`` those of retraining, with ``search_classes`` those searched."""
        parts = self._of(searched=False)
        sizes = parts.sizes | ({"retrain": len(parts.parts["retrain"])} if self.search_fraction < 1 else {})
        if self.search_classes:
            sizes |= {f"search_{name}": size for name, size in self._searched.sizes.items() if name != "test"}
        return sizes

    # -- loaders ------------------------------------------------------------------------------------------------

    def _training(self, name: Literal["weights", "arch"], rank: int = 0, world_size: int = 1) -> Batches:
        return self._searched.shuffled(name, rank, world_size)

    def _calibration(self) -> Batches:
        return self._searched.shuffled("searched", stream="recalibrate")

    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Batches:
        return self._of(searched).in_order(name, rank, world_size)

    def retrain_loader(
        self,
        position: Position,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
        cutout: int = 0,
    ) -> Loader[Batch]:
        """:meth:`SearchData.retrain_loader`, with one argument more.

        Args:
            position: see there, likewise the next five.
            rank: of this process.
            world_size: processes.
            batch_size: another than the data set's.
            limit: Lightning's ``limit_train_batches``.
            searched: the classes of the search alone.
            cutout: side of a square that is painted over in every image, besides the data set's own augmentation.
        """
        batches = self._of(searched).shuffled("retrain", rank, world_size, batch_size=batch_size, cutout=cutout)
        return Loader(batches, position, limit=limit, num_workers=self.num_workers)

    def _of(self, searched: bool) -> Parts:
        assert self._parts is not None, "setup() reads the data"
        return self._searched if searched else self._parts
