"""A person's own LightningDataModule or DataLoaders as data for a search."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from lightning_nas.data.loaders import Loader
from lightning_nas.data.module import ImageData
from lightning_nas.data.options import AdaptedOptions, option, own_data
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.split import Images
from lightning_nas.data.streams import Batch, Batches
from lightning_nas.data.user_samples import UserSamples, described, resolved
from lightning_nas.errors import DataError
from lightning_nas.ranges import BatchSize, Targets, Workers
from lightning_nas.training.seeding import seeded

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_ORDERS = (RandomSampler, SequentialSampler, SubsetRandomSampler, DistributedSampler)


class Loaders(pl.LightningDataModule):
    """A person's own DataLoaders as a LightningDataModule.

    Args:
        train: of the training samples.
        val: of the validation samples; None for no such loader.
        test: of the test samples; None for no such loader.
    """

    def __init__(
        self, train: DataLoader[Any], val: DataLoader[Any] | None = None, test: DataLoader[Any] | None = None
    ) -> None:
        super().__init__()
        self.train, self.val, self.test = train, val, test

    def train_dataloader(self) -> DataLoader[Any]:
        return self.train

    def val_dataloader(self) -> DataLoader[Any] | None:
        return self.val

    def test_dataloader(self) -> DataLoader[Any] | None:
        return self.test


class AdaptedData(ImageData):
    """The data sets behind the loaders of a person's own LightningDataModule, divided into the parts of a search.

    Images are those of ``train_dataloader().dataset``. The validation and test parts are those of the other two
    loaders; where the module has no such loader, or it returns None, they are taken from the training images. Samples
    are pairs ``(image, label)``: a tensor (C, H, W), floating point (cast to float32), uint8 or uint16
    (divided by 255 or 65,535) or bool; and one integer that counts the classes from 0, or a one-hot row. For
    ``task=regression`` the label is a number or several, for ``task=multilabel`` a row of 0 and 1. Batches are ``(x,
    y)``: x float32 (N, C, H, W), y int64 (N,) or float32 (N, T), see :class:`~lightning_nas.data.module.ImageData`.

    The transforms of the data sets are kept; their random numbers are drawn from (seed, pass, sample index). The batch
    size, ``num_workers``, ``pin_memory``, ``persistent_workers`` and the subset of a ``SubsetRandomSampler`` are those
    of the training loader. Its order, ``collate_fn`` and weighted samplers are not used, nor are hooks of the module
    that change batches; a warning names them. ``teardown`` of the module is not called, since a search reads the data
    after the fit too.

    Args:
        module: the LightningDataModule, or :class:`Loaders`.
        batch_size: images per batch and process; None for that of the training loader.
        num_workers: processes that prepare batches; None for that of the training loader.
        options: of :class:`~lightning_nas.data.module.ImageData`.

    Raises:
        DataError: in ``setup``, if a loader is not one DataLoader over a map-style data set, or a sample is not as
            above.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> dataset = TensorDataset(torch.rand(100, 3, 8, 8), torch.arange(100) % 4)
        >>> data = AdaptedData(Loaders(DataLoader(dataset, batch_size=8)))
        >>> data.setup()
        >>> data.shape, data.num_classes, data.batch_size, data.sizes
        ((3, 8, 8), 4, 8, {'weights': 56, 'arch': 14, 'val': 10, 'test': 20})
    """

    offers: ClassVar[tuple[Targets, ...] | None] = ("classes", "numbers", "labels")

    def __init__(
        self,
        module: pl.LightningDataModule,
        *,
        batch_size: BatchSize | None = None,
        num_workers: Workers | None = None,
        **options: Unpack[AdaptedOptions],
    ) -> None:
        super().__init__(**options)
        self.module, self._own = module, (batch_size, num_workers)
        self.prepare_data_per_node = module.prepare_data_per_node
        self._prepared = False
        self.augmentation = "that of your data sets"

    def prepare_data(self) -> None:
        """Call ``prepare_data`` of the module, once."""
        if not self._prepared:
            self.module.prepare_data()
            self._prepared = True

    def setup(self, stage: str | None = None) -> None:
        with own_data():
            super().setup(stage)

    def as_option(self, name: str, value: int) -> str:
        with own_data():
            return super().as_option(name, value)

    def _training(self, name: Literal["weights", "arch", "searched"], rank: int = 0, world_size: int = 1) -> Batches:
        with own_data():
            return super()._training(name, rank, world_size)

    def retrain_loader(self, *position: Any, **options: Any) -> Loader[Batch]:
        with own_data():
            return super().retrain_loader(*position, **options)

    def load(self) -> Images:
        if self.trainer is None and int(getattr(rank_zero_only, "rank", 0)) == 0:
            self.prepare_data()  # where no trainer does
        loaders = {"train": self._user_loader("train", "fit")}
        if loaders["train"] is None:
            raise DataError(f"{type(self.module).__name__} has no train_dataloader()")
        self._read_settings(loaders["train"])
        loaders |= {"val": self._user_loader("val", "fit"), "test": self._user_loader("test", "test")}
        datasets = {name: _dataset(loader) for name, loader in loaders.items() if loader is not None}
        for name in ("val", "test"):
            if name in datasets and (shared := _shared(datasets["train"], datasets[name])):
                self.doubt(f"{self._where(name)}: {shared} samples are training samples too")
        with seeded(self.seed, "labels"):  # reading labels may transform images
            order = [name for name in ("val", "test", "train") if name in datasets]
            parts = {name: UserSamples(datasets[name], self._where(name), self.targets) for name in order}
        if len(kinds := {part.kind: part.where for part in parts.values() if len(part)}) > 1:
            listed = ", ".join(f"{where} {kind}" for kind, where in kinds.items())
            raise DataError(f"images of two scales: {listed}; give all images one type")
        if len(shapes := {part.shape: part.where for part in parts.values() if len(part)}) > 1:
            listed = ", ".join(f"{where} {shape}" for shape, where in shapes.items())
            raise DataError(f"images of two shapes (channels, height, width): {listed}; give all images one shape")
        return Images(**parts)

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        return Transform(), Transform()

    def _where(self, name: str) -> str:
        """The loader of a part, for messages."""
        own = isinstance(self.module, Loaders)
        return f"the {name} DataLoader" if own else f"{type(self.module).__name__}.{name}_dataloader()"

    def _user_loader(self, name: str, stage: Literal["fit", "test"]) -> DataLoader[Any] | None:
        method = f"{name}_dataloader"
        if not is_overridden(method, self.module, pl.LightningDataModule):
            return None
        if self.trainer is not None:
            self.module.trainer = self.trainer
        with seeded(self.seed, "setup"):  # a random_split without generator gives the same parts every time
            self.module.setup(stage)
            loader = getattr(self.module, method)()
        if isinstance(loader, (list, tuple)) and len(loader) <= 1:
            loader = loader[0] if loader else None
        if loader is None and name != "train":
            return None
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            given = "over an IterableDataset" if isinstance(loader, DataLoader) else described(loader)
            read = "; read it into a list: DataLoader(list(dataset), batch_size=...)" if "Iterable" in given else ""
            raise DataError(
                f"{self._where(name)} is {given}; legal is one torch DataLoader over a map-style data set{read}"
            )
        return loader

    def _read_settings(self, loader: DataLoader[Any]) -> None:
        batch_size, workers = self._own
        found = batch_size or loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        if found is None and loader.batch_sampler is not None:
            with seeded(self.seed, "batch sampler"):
                found = len(list(next(iter(loader.batch_sampler), [])))
        if not isinstance(found, int) or found < 1:
            raise DataError(f"{self._where('train')} has no batch size; set {option('batch_size', 'N')}")
        self.batch_size = found
        self.num_workers = loader.num_workers if workers is None else workers
        self.pin_memory, self.persistent_workers = loader.pin_memory, loader.persistent_workers
        unused = [hook for hook in _HOOKS if is_overridden(hook, self.module, pl.LightningDataModule)]
        if not isinstance(_sampler(loader), _ORDERS):
            unused.append(type(_sampler(loader)).__name__)
        if type(loader.batch_sampler) not in (BatchSampler, type(None)):
            unused.append(type(loader.batch_sampler).__name__)
        if loader.batch_sampler is not None and loader.collate_fn is not default_collate:
            unused.append("collate_fn")
        if unused:
            self.doubt(f"{self._where('train')}: a search does not use its {', '.join(unused)}")


def _sampler(loader: DataLoader[Any]) -> Any:
    """What orders the samples of a loader, also if it was given a ``batch_sampler``."""
    return getattr(loader.batch_sampler, "sampler", loader.sampler)


def _dataset(loader: DataLoader[Any]) -> Any:
    """The samples that a loader draws from."""
    sampler = _sampler(loader)
    return Subset(loader.dataset, list(sampler.indices)) if isinstance(sampler, SubsetRandomSampler) else loader.dataset


def _shared(one: Any, other: Any) -> int:
    """Number of samples that two data sets share, as far as they are subsets of one data set."""
    (root, indices), (other_root, others) = resolved(one), resolved(other)
    return len(set(indices) & set(others)) if root is other_root else 0
