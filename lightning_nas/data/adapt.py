"""A user's own LightningDataModule, cut into our four parts and put into our order."""

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pydantic import NonNegativeInt, PositiveInt
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from lightning_nas.data.base import SearchData
from lightning_nas.data.module import ImageData
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown
from lightning_nas.training.seeding import seeded


def adapt(module: pl.LightningDataModule, **options: Any) -> SearchData:
    """``module`` as data for a search: itself if it is ours, else its data sets in our order.

    Args:
        module: any LightningDataModule.
        options: of :class:`AdaptedData`.
    """
    return module if isinstance(module, SearchData) else AdaptedData(module, **options)


class Foreign:
    """The samples of a user's data set.

    Args:
        dataset: map-style, of pairs (image, label).
        name: of the loader it came from, for messages.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name
        self.labels = _labels(self)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = self.dataset[index]
        if isinstance(sample, Sequence) and len(sample) == 2:
            image, label = sample
            if isinstance(image, Tensor) and image.is_floating_point() and _is_label(label):
                return image, int(label)
        raise DataError(f"{self.name}() must give pairs (float image tensor, integer label); sample {index} is not one")

    def take(self, indices: Sequence[int]) -> None:
        """None: only the user's data set knows how to read."""


class AdaptedData(ImageData):
    """The data sets behind a LightningDataModule's loaders.

    Its transforms stay as they are, and draw their randomness from (seed, pass, sample index) like ours. Its own order,
    batch samplers and collation are not used. Images come from ``train_dataloader().dataset``; the validation and test
    parts from the other two loaders, or off the training images where it has none.

    Args:
        module: the user's.
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

    def prepare_data(self) -> None:
        """The user's."""
        self.module.prepare_data()

    def load(self) -> Images:
        loader = self._loader("train", "fit")
        if loader is None:
            raise DataError(f"{type(self.module).__name__} has no train_dataloader()")
        batch_size, workers = self._own
        self.batch_size = batch_size or loader.batch_size or 1
        self.num_workers = loader.num_workers if workers is None else workers
        others = {"val": self._loader("val", "fit"), "test": self._loader("test", "test")}
        with seeded(self.seed, "labels"):  # to read them may mean to transform images
            parts = {name: Foreign(other.dataset, f"{name}_dataloader") for name, other in others.items() if other}
            return Images(Foreign(loader.dataset, "train_dataloader"), **parts)

    def _loader(self, name: str, stage: Literal["fit", "test"]) -> DataLoader[Any] | None:
        method = f"{name}_dataloader"
        if not is_overridden(method, self.module, pl.LightningDataModule):
            return None
        with seeded(self.seed, "setup"):  # a random_split without generator gives the same parts every time
            self.module.setup(stage)
            loader = getattr(self.module, method)()
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            raise DataError(
                f"{type(self.module).__name__}.{method}() must give one torch DataLoader over a map-style data set, "
                f"not {shown(type(loader).__name__)}"
            )
        return loader

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        return Transform(), Transform()


def _is_label(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.is_floating_point()
    return hasattr(value, "__index__")


def _labels(samples: Foreign) -> Tensor:
    """Labels of all samples: from where the usual data sets keep them, else by reading every sample."""
    labels = _kept(samples.dataset)
    if labels is None or labels.is_floating_point():
        labels = torch.tensor([samples[index][1] for index in range(len(samples))])
    if len(labels) and labels.min() < 0:
        raise DataError(f"{samples.name}() has negative labels; they must count the classes from 0 on")
    return labels.long()


def _kept(dataset: Any) -> Tensor | None:
    if isinstance(dataset, Subset):
        whole = _kept(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[1]
    targets = getattr(dataset, "targets", None)
    if targets is None or getattr(dataset, "target_transform", None) is not None or len(targets) != len(dataset):
        return None
    return torch.as_tensor(targets)
