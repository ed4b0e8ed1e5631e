"""Base class of data sets of labelled images."""

import logging
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt

from lightning_nas.data.base import SearchData
from lightning_nas.data.checks import check_shape, count_classes, doubts_of, size_found
from lightning_nas.data.division import Division
from lightning_nas.data.loaders import Loader, ReadPosition
from lightning_nas.data.masks import count_masks, mask_doubts, pixels_of
from lightning_nas.data.options import ImageSize, Share, ShareOrAll, ShareOrNone, option
from lightning_nas.data.samples import Part, Transform, spread
from lightning_nas.data.split import Images, divide
from lightning_nas.data.streams import Batch, Batches
from lightning_nas.data.targets import Scale, check_parts, count_targets, target_doubts
from lightning_nas.errors import DataError
from lightning_nas.ranges import BatchSize, Seed, Targets, Width, Workers
from lightning_nas.training.seeding import seeded

log = logging.getLogger(__name__)

_LOOKED_AT = 32  # images of each part


class ImageData(SearchData):
    """Labelled images for a search, for retraining and for the test, in disjoint parts.

    The test part is the data set's own, or ``test_fraction`` of the training images; the validation part is its own, or
    ``val_fraction`` of them. Of the remaining images the search sees ``search_fraction``: ``arch_fraction`` of these
    trains the architecture, the others the weights. Retraining uses all remaining images. Every class is divided in
    these shares. The division, the order and the augmentation are functions of ``seed`` alone.

    Batches are ``(x, y)``: x float32 (N, C, H, W); y int64 (N,) from 0 to ``num_classes`` - 1. Training batches
    are shuffled and augmented, a pass leaves out the images that do not fill a batch. For a task with other targets
    (see :meth:`~lightning_nas.data.base.SearchData.expect`) y is float32 (N, ``num_classes``): numbers, standardised by
    mean and standard deviation of the images that retraining uses, or labels, 0 or 1. Then combinations of labels are
    divided in the shares, and numbers at random. Masks are int64 (N, H, W), a class from 0 to ``num_classes`` - 1 for
    each pixel and 255 for those without one; they are transformed with the images, and divided at random.

    A subclass implements :meth:`load` (where images come from) and :meth:`transforms`.

    Attributes:
        class_names: names of the classes in the order of the labels, where they have names.

    Args:
        batch_size: images per batch and process.
        arch_fraction: share of the searched images that trains the architecture; 0 for searches without architecture
            parameters.
        val_fraction: share of the training images for validation, unless the data set has such a part.
        test_fraction: share of the training images for the test, unless the data set has such a part.
        seed: of the division, the order and the augmentation.
        num_workers: processes that prepare batches; they change only the speed.
        image_size: height and width, or both in a list, compared with the data; None takes those of the data.
        channels: number of channels, compared with the data; None takes that of the data.
        num_classes: number of classes, or of targets a sample, compared with the data; None takes that of the data.
        search_classes: number of classes that the search sees, chosen by the seed, as FBNet does on ImageNet
            (arXiv:1812.03443, section 4.1); retraining and the test have all classes. None searches on all.
        search_fraction: share of the training images that the search sees, as in PC-DARTS on ImageNet
            (arXiv:1907.05737, section 4.3); retraining has all images.
        balanced: let every class come equally often in training batches, however many images it has: those of small
            classes come again, augmented anew, and in each pass some of large classes are left out. Validation and
            test parts stay as they are.
    """

    offers: ClassVar[tuple[Targets, ...] | None] = ("classes",)

    def __init__(
        self,
        *,
        batch_size: BatchSize = 64,
        arch_fraction: ShareOrNone = 0.2,
        val_fraction: Share = 0.1,
        test_fraction: Share = 0.2,
        seed: Seed = 0,
        num_workers: Workers = 0,
        image_size: ImageSize | None = None,
        channels: Width | None = None,
        num_classes: PositiveInt | None = None,
        search_classes: PositiveInt | None = None,
        search_fraction: ShareOrAll = 1.0,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.arch_fraction, self.val_fraction, self.test_fraction = arch_fraction, val_fraction, test_fraction
        self.image_size, self.channels, self.search_classes = image_size, channels, search_classes
        self._num_classes, self.search_fraction = num_classes, search_fraction
        self.balanced = balanced
        self._division: Division | None = None
        self.class_names: list[str] | None = None

    @abstractmethod
    def load(self) -> Images:
        """The images, with labels counted from 0.

        Raises:
            DataError: images are missing or not usable.
        """

    @abstractmethod
    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        """The transform of training images, and that of all other images.

        Args:
            part: the images to train on; statistics may be taken from these only.
        """

    # -- after setup --------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Load, check and divide the data; later calls do nothing, whatever the stage.

        Raises:
            DataError: the data cannot be read or used, or a part is too small.
        """
        if self._division:
            return
        self._images = images = self.load()
        self._num_classes = self._counted(images)
        shares = {"test": self.test_fraction, "val": self.val_fraction, "arch": self.arch_fraction}
        cut = divide(images, **shares, search=self.search_fraction, seed=self.seed)
        everything = Division(cut, *self.transforms(cut["retrain"]), self.seed, self.batch_size, self.balanced)
        if self.targets != "classes":
            everything = self._with_targets(everything)
        first, _ = everything.in_order("retrain").samples[0, 0]
        self.shape = check_shape(tuple(first.shape), self.image_size, self.channels)
        searched = everything
        if self.search_classes:
            searched = everything.of_classes(self.search_classes, self._num_classes)
        trained = ("weights", "arch") if self.arch_fraction else ("weights",)
        for name in trained if self.for_search else ():
            searched.shuffled(name)
        for name in ("val", "test") if self.for_search else ("test",):
            searched.in_order(name)
        looked_at = [name for name in ("retrain", "val", "test") if len(everything.parts[name])]
        for doubt in doubts_of({name: _some(everything, name, _LOOKED_AT)[0] for name in looked_at}):
            self.doubt(doubt)
        self._division, self._searched = everything, searched
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        log.info("parts of the data: %s; augmentation: %s", sizes, self.augmentation or "unknown")

    def _counted(self, images: Images) -> int:
        """The number of classes or of targets."""
        if self.targets == "classes":
            return count_classes(images.labels, self._num_classes, len(self.class_names or ()))
        for name, value, legal in (
            ("search_classes", self.search_classes, "null"),
            ("balanced", self.balanced, "false"),
        ):
            if value:
                raise DataError(f"{option(name)} is {value}, but the targets are {self.targets}; legal: {legal}")
        if self.targets == "masks":
            return count_masks(images, self._num_classes)
        return count_targets(images.labels, self._num_classes, self.targets)

    def _with_targets(self, everything: Division) -> Division:
        """Check targets that are no classes, and standardise numbers by the samples to train on."""
        named = ("retrain", *(("val",) if self.for_search else ()), "test")
        if self.targets == "masks":
            for doubt in mask_doubts({name: pixels_of(everything.parts[name]) for name in named}, self.num_classes):
                self.doubt(doubt)
            return everything
        parts = {name: everything.parts[name].labels for name in named if len(everything.parts[name])}
        check_parts(parts, self.targets)
        if self.targets == "numbers":
            self.scale = self.scale or Scale.of(parts["retrain"])
            if (known := len(self.scale.mean)) != self.num_classes:
                raise DataError(
                    f"the network was trained on {known} numbers a sample, the data have {self.num_classes}"
                )
            everything = everything.standardised(self.scale)
        for doubt in target_doubts(parts, self.targets, self.scale):
            self.doubt(doubt)
        return everything

    @property
    def is_set_up(self) -> bool:
        return self._division is not None

    def digest(self) -> str:
        if self._division is None:
            return ""
        with seeded(self.seed, "digest"):
            return self._images.digest()

    def looked_at(self, name: str, most: int) -> Batch:
        """Up to ``most`` samples of a part or of "retrain" as one batch, evenly spread and not augmented."""
        return _some(self._of(searched=False), name, most)

    @property
    def in_memory(self) -> bool:
        """Whether all images are held in memory; else they are read one by one."""
        return self._of(searched=False).parts["retrain"].take([0]) is not None

    @property
    def majority(self) -> int:
        """The class of the most images to train on, or of the most pixels of their masks."""
        part = self._of(searched=False).parts["retrain"]
        counts = pixels_of(part)[: self.num_classes] if self.targets == "masks" else torch.bincount(part.labels)
        return int(counts.argmax())

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set, or of numbers or labels a sample."""
        assert self._num_classes is not None, "call setup() first: it reads the data"
        return self._num_classes

    @property
    def found(self) -> dict[str, int | list[int]]:
        return {"image_size": size_found(self.shape), "channels": self.shape[0], "num_classes": self.num_classes}

    @property
    def search_num_classes(self) -> int:
        """Number of classes that the search sees."""
        return self.search_classes or self.num_classes

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each part.

        With ``search_fraction`` below 1 also of "retrain"; with ``search_classes`` also of the parts that the search
        sees ("search_weights", ...).
        """
        whole = self._of(searched=False)
        sizes = whole.sizes | ({"retrain": len(whole.parts["retrain"])} if self.search_fraction < 1 else {})
        if self.search_classes:
            sizes |= {f"search_{name}": size for name, size in self._searched.sizes.items() if name != "test"}
        return sizes

    # -- loaders ------------------------------------------------------------------------------------------------

    def _training(self, name: Literal["weights", "arch", "searched"], rank: int = 0, world_size: int = 1) -> Batches:
        return self._searched.shuffled(name, rank, world_size)

    def _calibration(self) -> Batches:
        return self._searched.shuffled("searched", stream="recalibrate")

    def _in_order(
        self, name: Literal["arch", "val", "test"], rank: int = 0, world_size: int = 1, *, searched: bool = False
    ) -> Batches:
        return self._of(searched).in_order(name, rank, world_size)

    def retrain_loader(
        self,
        position: ReadPosition,
        rank: int = 0,
        world_size: int = 1,
        *,
        batch_size: int | None = None,
        limit: int | float = 1.0,
        searched: bool = False,
        cutout: int = 0,
    ) -> Loader[Batch]:
        """Batches (x, y) of the weights and arch parts together, for training one network.

        Args:
            position: returns how many batches were seen so far.
            rank: of this process.
            world_size: number of processes.
            batch_size: None for that of the data set.
            limit: Lightning's ``limit_train_batches``.
            searched: only the classes of the search, numbered as in the search.
            cutout: side of a square that is painted over in every image, after the data set's own augmentation.

        Raises:
            DataError: fewer images than one batch of all processes, or a cutout of images with masks.
        """
        if cutout and self.targets == "masks":
            raise DataError(f"retrain.cutout={cutout} paints over what the masks name; legal: 0")
        batches = self._of(searched).shuffled("retrain", rank, world_size, batch_size=batch_size, cutout=cutout)
        return self._loader(batches, position, limit)

    def _of(self, searched: bool) -> Division:
        assert self._division is not None, "call setup() first: it reads the data"
        return self._searched if searched else self._division


def _some(division: Division, name: str, most: int) -> Batch:
    samples = division.in_order(name).samples
    return samples.batch([(0, index) for index in spread(len(samples), most)])
