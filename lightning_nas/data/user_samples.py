"""The samples of a person's own data set, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from lightning_nas.data.samples import Label, digest_of, label_of, spread
from lightning_nas.data.targets import as_targets
from lightning_nas.errors import DataError, NasError, shown
from lightning_nas.ranges import Targets

_LARGEST = {torch.uint8: 255, torch.uint16: 65535, torch.bool: 1}
_COMPARED = 16  # samples whose label is compared with the list of labels that the data set keeps


class UserSamples:
    """The samples of a person's own data set, as :class:`~lightning_nas.data.samples.Samples`.

    Images become float32 (C, H, W): floating point of any precision is cast, uint8 is divided by 255 (as
    ``torchvision.transforms.ToTensor`` does) and uint16 by 65,535, (H, W) gets one channel. Labels are one integer: an
    int, a numpy integer, a tensor or array with one integer element, or a one-hot row. Targets of another kind are one
    number, or a list, tensor or array of them.

    Args:
        dataset: map-style, of pairs (image, label).
        where: the loader it came from, for messages.
        targets: kind of the labels: "classes", "numbers" or "labels".

    Attributes:
        kind: type of the images, "floating point" or an integer's; "" without any.
        shape: of the first image as (C, H, W); () without any.

    Raises:
        DataError: a sample is not such a pair, or the data set fails; also while samples are read.
    """

    def __init__(self, dataset: Any, where: str, targets: Targets = "classes") -> None:
        self.dataset, self.where, self.targets = dataset, where, targets
        self.kind, self.shape = "", tuple[int, ...]()
        self.labels = self._all_labels() if targets == "classes" else self._all_targets()
        if len(self):
            self.shape = tuple(self._image(self._pair(0)[0], 0).shape)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        image, given = self._pair(index)
        label, known = self._read(given, index), label_of(self.labels, index)
        if not bool((torch.as_tensor(label) == torch.as_tensor(known)).all()):
            raise DataError(
                f"{self.where}: the label of sample {index} is {_plain(label)}, but was {_plain(known)} before; "
                "the label of a sample must not change"
            )
        return self._image(image, index), label

    def take(self, indices: Sequence[int]) -> None:
        """None, since only the person's data set can read its samples."""

    def digest(self) -> str:
        """Digest of all labels, and of the tensors of a TensorDataset or else of some images."""
        root, indices = resolved(self.dataset)
        if isinstance(root, TensorDataset):
            return digest_of(*root.tensors, torch.tensor(indices), self.labels)
        looked = [self[index][0] for index in spread(len(self), _COMPARED)]
        return digest_of(self.labels, *looked)

    def _pair(self, index: int) -> tuple[Any, int]:
        try:
            sample = self.dataset[index]
        except Exception as reason:
            if isinstance(reason, NasError):
                raise
            said = shown(f"{type(reason).__name__}: {reason}", 160)
            raise DataError(f"{self.where}: the data set fails at sample {index}: {said}") from reason
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            raise DataError(
                f"{self.where}: sample {index} is {described(sample)}; legal are pairs (image, label), a tuple of "
                f"two{_instead(sample)}"
            )
        return sample[0], sample[1]

    def _image(self, image: Any, index: int) -> Tensor:
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        if not isinstance(image, Tensor) or not (image.is_floating_point() or image.dtype in _LARGEST):
            raise DataError(
                f"{self.where}: the image of sample {index} is {described(image)}; legal is a tensor (C, H, W), "
                "floating point, uint8, uint16 or bool, e.g. by torchvision.transforms.ToTensor()"
            )
        kind = "floating point" if image.is_floating_point() else str(image.dtype).removeprefix("torch.")
        self.kind = self.kind or kind
        if kind != self.kind:
            raise DataError(
                f"{self.where}: the image of sample {index} is {kind}, others are {self.kind}; give all one type"
            )
        pixels: Tensor = image.detach().float() / _LARGEST.get(image.dtype, 1)
        if not pixels.isfinite().all():
            raise DataError(f"{self.where}: the image of sample {index} has a pixel that is NaN or infinite")
        return pixels[None] if pixels.ndim == 2 else pixels

    def _read(self, label: Any, index: int) -> Label:
        """The label of a sample: a class, or numbers or labels (T,)."""
        if self.targets == "classes":
            return self._label(label, index)
        return as_targets(self._row(label, index)[None], 1, f"{self.where}: sample {index}", self.targets)[0]

    def _row(self, label: Any, index: int) -> Tensor:
        """The numbers of a sample, (T,) float64."""
        try:
            given = label if isinstance(label, Tensor) else torch.as_tensor(label, dtype=torch.float64)
            row = given.detach().cpu().double()
        except (TypeError, ValueError, RuntimeError):  # of names, for example
            row = None
        if row is None or row.ndim > 1 or not row.numel():
            raise DataError(
                f"{self.where}: the target of sample {index} is {described(label)}; legal is a number, or a "
                f"list, tensor or array (T,) of them{advice(label) if isinstance(label, str) else ''}"
            )
        return row.reshape(-1)

    def _label(self, label: Any, index: int) -> int:
        if isinstance(label, int):
            return int(label)
        if isinstance(label, (Tensor, np.ndarray, np.generic)):
            array = label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)
            if array.size == 1 and array.dtype.kind in "iub":
                return int(array.item())
            if array.size > 1 and array.ndim == 1 and array.dtype.kind in "iubf" and _one_hot(array):
                return int(array.argmax())
        raise DataError(
            f"{self.where}: the label of sample {index} is {described(label)}; legal is one integer that counts the "
            f"classes from 0 on, or a one-hot row{advice(label)}"
        )

    def _all_targets(self) -> Tensor:
        """Targets of all samples (N, T): those of a TensorDataset, else by reading every sample."""
        root, indices = resolved(self.dataset)
        if isinstance(root, TensorDataset) and len(root.tensors) == 2:
            return as_targets(root.tensors[1][indices], len(indices), f"{self.where}: the targets", self.targets)
        rows = [self._row(self._pair(index)[1], index) for index in range(len(self))]
        if unlike := [number for number, row in enumerate(rows) if len(row) != len(rows[0])]:
            raise DataError(
                f"{self.where}: sample {unlike[0]} has {len(rows[unlike[0]])} targets, sample 0 has {len(rows[0])}; "
                "every sample needs as many"
            )
        stacked = torch.stack(rows) if rows else torch.zeros(0, 1)
        return as_targets(stacked, len(rows), f"{self.where}: the targets", self.targets)

    def _all_labels(self) -> Tensor:
        """Labels of all samples (N,), int64: the list that the usual data sets keep, else by reading every sample."""
        count = len(self)
        labels = kept_labels(self.dataset)
        if labels is not None:
            compared = spread(count, _COMPARED)
            if any(self._label(self._pair(index)[1], index) != labels[index] for index in compared):
                labels = None  # __getitem__ gives other labels than the list
        if labels is None:
            read = [self._label(self._pair(index)[1], index) for index in range(count)]
            labels = torch.tensor(read, dtype=torch.int64)
        if count and labels.min() < 0:
            raise DataError(f"{self.where} has negative labels; they must count the classes from 0 on")
        return labels.long()


def _plain(label: Label) -> Any:
    return label.tolist() if isinstance(label, Tensor) else label


def _instead(sample: Any) -> str:
    """What would serve in place of a sample that is no pair.

    >>> _instead({"pixels": 1, "label": 2})
    "; return two of 'pixels', 'label' as sample[KEY_OF_THE_IMAGE], sample[KEY_OF_THE_LABEL]"
    """
    if isinstance(sample, Mapping):
        names = ", ".join(shown(str(name)) for name in list(sample)[:6])
        return f"; return two of {names} as sample[KEY_OF_THE_IMAGE], sample[KEY_OF_THE_LABEL]"
    if isinstance(sample, (tuple, list)) and len(sample) > 2:
        return "; return its image and its label alone"
    return "; there is no label in it"


def resolved(dataset: Any) -> tuple[Any, list[int]]:
    """The data set below any number of subsets, and the indices in it."""
    indices = list(range(len(dataset)))
    while isinstance(dataset, Subset):
        chosen = dataset.indices
        indices, dataset = [int(chosen[index]) for index in indices], dataset.dataset
    return dataset, indices


def kept_labels(dataset: Any) -> Tensor | None:
    """The labels (N,) that a data set keeps as a list, as those of torchvision do; None without such a list.

    >>> data = TensorDataset(torch.zeros(4, 1, 2, 2), torch.tensor([3, 1, 0, 2]))
    >>> kept_labels(Subset(data, [0, 3])).tolist()
    [3, 2]
    """
    if isinstance(dataset, Subset):
        whole = kept_labels(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        labels = dataset.tensors[1]
    else:
        kept = getattr(dataset, "targets", None)
        if kept is None or getattr(dataset, "target_transform", None) is not None or len(kept) != len(dataset):
            return None
        try:
            labels = torch.as_tensor(kept)
        except (TypeError, ValueError, RuntimeError):  # of names, for example
            return None
    labels = labels.flatten() if labels.numel() == len(labels) else labels
    return None if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() else labels


def _one_hot(row: np.ndarray[Any, Any]) -> bool:
    return bool(np.isin(row, (0, 1)).all() and row.sum() == 1)


def advice(label: Any) -> str:
    """What would serve in place of a label that cannot be used.

    >>> advice("cat")
    '; number the classes, e.g. by sorted(set(names)).index(name)'
    """
    if isinstance(label, str):
        return "; number the classes, e.g. by sorted(set(names)).index(name)"
    if not isinstance(label, (Tensor, np.ndarray, np.generic, float)):
        return ""
    array = label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)
    if array.size <= 1:
        return "; numbers that are classes need .long(), others task=regression"
    if array.ndim > 1:
        return "; one label per pixel (segmentation) is not supported, only one per image"
    if array.dtype.kind == "f" and not np.isin(array, (0, 1)).all():
        return "; of class probabilities take the argmax, task.label_smoothing smooths; numbers need task=regression"
    return "; several labels per image, 0 or 1 for each, need task=multilabel"


def described(value: Any) -> str:
    """A value in an error message: its type, with shape and element type where it has them.

    >>> described(torch.zeros(2, 3)), described((1, 2)), described("cat")
    ('a Tensor (2, 3) of torch.float32', 'a tuple of length 2', "of the type 'str'")
    """
    if isinstance(value, (Tensor, np.ndarray)):
        return f"a {type(value).__name__} {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return f"of the type {shown(type(value).__name__)}"
