"""A person's own LightningDataModule or DataLoaders as data for a search."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pydantic import NonNegativeInt, PositiveInt
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from lightning_nas.data.base import SearchData
from lightning_nas.data.module import ImageData
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown
from lightning_nas.training.seeding import seeded

log = logging.getLogger(__name__)

_COMPARED = 16  # samples whose label is compared with the list of labels that the data set keeps
_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def adapt(module: pl.LightningDataModule, **options: Any) -> SearchData:
    """``module`` itself if it is a :class:`SearchData`, else :class:`AdaptedData` of it.

    Args:
        module: any LightningDataModule.
        options: of :class:`AdaptedData`.
    """
    return module if isinstance(module, SearchData) else AdaptedData(module, **options)


class Loaders(pl.LightningDataModule):
    """A person's own DataLoaders as a LightningDataModule.

    Args:
        train: of the training samples.
        val: of the validation samples; None for none.
        test: of the test samples; None for none.
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


class UserSamples:
    """The samples of a person's own data set, checked one by one as they are read.

    Args:
        dataset: map-style, of pairs (image, label).
        where: the loader it came from, for messages.
    """

    def __init__(self, dataset: Any, where: str) -> None:
        self.dataset, self.where = dataset, where
        self.labels = self._all_labels()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._pair(index)
        if label != self.labels[index]:
            raise DataError(
                f"{self.where}: the label of sample {index} is {label} now and was {int(self.labels[index])} at first; "
                "a label must not change"
            )
        return self._image(image, index), label

    def take(self, indices: Sequence[int]) -> None:
        """None: only the person's data set knows how to read."""

    def _pair(self, index: int) -> tuple[Any, int]:
        sample = self.dataset[index]
        if not isinstance(sample, Sequence) or isinstance(sample, str) or len(sample) != 2:
            raise DataError(f"{self.where}: sample {index} is {_kind(sample)}; legal are pairs (image, label)")
        return sample[0], self._label(sample[1], index)

    def _image(self, image: Any, index: int) -> Tensor:
        """Floating point as float32; bytes as float32 from 0 to 1."""
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        if not isinstance(image, Tensor) or not (image.is_floating_point() or image.dtype == torch.uint8):
            raise DataError(
                f"{self.where}: the image of sample {index} is {_kind(image)}; legal is a tensor (C, H, W), floating "
                "point or uint8, e.g. by the transform torchvision.transforms.ToTensor()"
            )
        image = image.float().div(255) if image.dtype == torch.uint8 else image.float()
        return image[None] if image.ndim == 2 else image

    def _label(self, label: Any, index: int) -> int:
        if isinstance(label, (Tensor, np.ndarray, np.generic)):
            value = torch.as_tensor(label)
            if value.numel() == 1 and not value.is_floating_point() and not value.is_complex():
                return int(value)
        elif isinstance(label, int):
            return int(label)
        raise DataError(
            f"{self.where}: the label of sample {index} is {_kind(label)}; legal is one integer that counts the "
            "classes from 0 on (of one-hot rows their argmax; regression and several labels per image are not supported)"
        )

    def _all_labels(self) -> Tensor:
        """Labels of all samples (N,), int64: from where the usual data sets keep them, else by reading every sample."""
        count = len(self)
        labels = _kept(self.dataset)
        if labels is not None:
            compared = range(0, count, max(1, count // _COMPARED))
            if any(self._pair(index)[1] != labels[index] for index in compared):
                labels = None  # the data set gives other labels than those it keeps
        if labels is None:
            labels = torch.tensor([self._pair(index)[1] for index in range(count)], dtype=torch.int64)
        if count and labels.min() < 0:
            raise DataError(f"{self.where}: there are negative labels; they must count the classes from 0 on")
        return labels.long()


class AdaptedData(ImageData):
    """The data sets behind the loaders of a LightningDataModule, divided into the four parts of a search.

    Its transforms stay as they are, and draw their randomness from (seed, pass, sample index). Images come from
    ``train_dataloader().dataset``; the validation and test parts from the other two loaders, or off the training images
    where it has none. Batch size, ``num_workers``, ``pin_memory`` and ``persistent_workers`` are those of the training
    loader; its order and its ``collate_fn`` are not used.

    Args:
        module: the LightningDataModule, or :class:`Loaders`.
        batch_size: None takes that of its training loader.
        num_workers: likewise.
        options: of :class:`~lightning_nas.data.module.ImageData`.
    """

    def __init__(
        self,
        module: pl.LightningDataModule,
        *,
        batch_size: PositiveInt | None = None,
        num_workers: NonNegativeInt | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.module, self._own = module, (batch_size, num_workers)
        self.prepare_data_per_node = module.prepare_data_per_node
        self._prepared = False

    def prepare_data(self) -> None:
        """Call that of the module, once."""
        if not self._prepared:
            self.module.prepare_data()
            self._prepared = True

    def load(self) -> Images:
        if self.trainer is None and rank_zero_only.rank == 0:
            self.prepare_data()  # where a trainer does not
        loader = self._loader("train", "fit")
        if loader is None:
            raise DataError(f"{type(self.module).__name__} has no train_dataloader()")
        self._read_settings(loader)
        others = {"val": self._loader("val", "fit"), "test": self._loader("test", "test")}
        with seeded(self.seed, "labels"):  # to read them may mean to transform images
            parts = {name: UserSamples(_dataset(other), self._where(name)) for name, other in others.items() if other}
            return Images(UserSamples(_dataset(loader), self._where("train")), **parts)

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        return Transform(), Transform()

    def _where(self, name: str) -> str:
        """The loader of a part, for messages."""
        own = isinstance(self.module, Loaders)
        return f"the {name} DataLoader" if own else f"{type(self.module).__name__}.{name}_dataloader()"

    def _read_settings(self, loader: DataLoader[Any]) -> None:
        batch_size, workers = self._own
        found = batch_size or loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        if not isinstance(found, int):
            raise DataError(
                f"{self._where('train')} has no batch size; give the loader one, or pass batch_size=N to AdaptedData "
                "(dataset.batch_size=N on the command line)"
            )
        self.batch_size = found
        self.num_workers = loader.num_workers if workers is None else workers
        self.pin_memory, self.persistent_workers = loader.pin_memory, loader.persistent_workers

    def _loader(self, name: str, stage: Literal["fit", "test"]) -> DataLoader[Any] | None:
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
            given = "an iterable data set" if isinstance(loader, DataLoader) else _kind(loader)
            raise DataError(f"{self._where(name)} is {given}; legal is one torch DataLoader over a map-style data set")
        return loader


def _dataset(loader: DataLoader[Any]) -> Any:
    """The samples that a loader draws from."""
    sampler: Any = loader.sampler
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, list(sampler.indices))
    return loader.dataset


def _kind(value: Any) -> str:
    """A value in an error message: its type, with shape and dtype where it has them."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"a {type(value).__name__} of shape {tuple(value.shape)} and type {shown(str(value.dtype))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of the type {shown(type(value).__name__)}"


def _kept(dataset: Any) -> Tensor | None:
    """The list of labels that a data set keeps, as integers; None if it keeps none."""
    if isinstance(dataset, Subset):
        whole = _kept(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        labels = dataset.tensors[1]
    else:
        labels = getattr(dataset, "targets", None)
        if labels is None or getattr(dataset, "target_transform", None) is not None or len(labels) != len(dataset):
            return None
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            return None
    labels = labels.flatten() if labels.numel() == len(labels) else labels
    return None if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() else labels
