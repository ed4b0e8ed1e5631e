"""Samples by index, in memory or on disk, subsets of them, and the transform of images."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Label = int | Tensor
"""The class of one sample, its numbers or labels (T,), or its mask (H, W)."""


class Samples(Protocol):
    """A map-style data set whose labels are known without reading the images.

    Attributes:
        labels: (n,) int64, or (n, T) floating point for targets that are no classes.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Label]:
        """One image in the form that its transform takes, and its label."""

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The images (N, C, H, W) and labels (N, ...) at ``indices``; None where images must be read one by one."""

    def digest(self) -> str:
        """Hexadecimal digest of the contents; "" where it is not known."""


class MaskedSamples(ABC):
    """Samples whose target is a mask, a class for each pixel, which is read with the image.

    A sample is a pair of an image and a :class:`torchvision.tv_tensors.Mask` (H, W), uint8. Whole batches have masks
    int64 (N, H, W).

    Attributes:
        counts: (n, 256) int64, the pixels of each value in each mask.
        labels: (n,) int64, all 0: masks are divided at random.
    """

    counts: Tensor
    labels: Tensor

    @abstractmethod
    def name(self, index: int) -> str:
        """How messages name a mask: its file, or its place in the array."""


def identity(images: Tensor) -> Tensor:
    """The images unchanged."""
    return images


def spread(count: int, most: int) -> range:
    """At most ``most`` indices, evenly spread over ``count`` samples.

    >>> list(spread(10, 3))
    [0, 4, 8]
    """
    return range(0, count, max(1, -(-count // most)))


def piece_length(values: int) -> int:
    """Number of images, of so many values each, that are handled at once: 8 MB as float64, and at most 1,024.

    >>> piece_length(8 * 8), piece_length(3 * 32 * 32)
    (1024, 341)
    """
    return max(1, min(1024, 2**20 // max(1, values)))


def pieces(images: Tensor) -> Iterator[Tensor]:
    """The images (n, ...) piece by piece, see :func:`piece_length`; a copy of all may not fit."""
    return iter(torch.split(images, piece_length(images[:1].numel())))


def digest_of(*tensors: Tensor) -> str:
    """Hexadecimal digest of the types, shapes and values of tensors.

    >>> digest_of(torch.zeros(2)) == digest_of(torch.zeros(2)) != digest_of(torch.zeros(2, dtype=torch.int32))
    True
    """
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
        for piece in pieces(tensor.detach() if tensor.ndim else tensor.detach()[None]):
            sha.update(piece.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:32]


@dataclass(frozen=True)
class Transform:
    """The transform of a data set: a step for single images and a step for batches.

    Attributes:
        image: applied to one image, may be random; returns a tensor (C, H, W). None where there is nothing to do. Given
            an image and its mask it returns both, changed alike.
        batch: applied to tensors (..., C, H, W), the same for all images of a batch and therefore not random.
        zero: one value per channel, of pixels from 0 to 1, that ``batch`` maps to 0.
    """

    image: Callable[..., Any] | None = None
    batch: Callable[[Tensor], Tensor] = identity
    zero: Sequence[float] = (0.0,)


def pixels(images: Tensor) -> Tensor:
    """Images as transforms take them: uint8 as it is, all others as float32, uint16 divided by 65,535.

    >>> pixels(torch.tensor([0, 65535], dtype=torch.uint16)).tolist(), pixels(torch.tensor([True])).tolist()
    ([0.0, 1.0], [1.0])
    """
    if images.dtype == torch.uint8:
        return images
    return images.float() / 65535 if images.dtype == torch.uint16 else images.float()


def label_of(labels: Tensor, index: int) -> Label:
    """One of many labels: a class as a number, anything else as a tensor (T,).

    >>> label_of(torch.tensor([4, 7]), 1), label_of(torch.tensor([[0.5, 2.0]]), 0)
    (7, tensor([0.5000, 2.0000]))
    """
    return int(labels[index]) if labels.ndim == 1 else labels[index]


class Arrays:
    """Images and labels held in memory, in the type and the order in which they came.

    Args:
        images: (n, C, H, W), uint8, uint16, bool or floating point.
        labels: (n,) int64, or (n, T) floating point.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        images, labels = self.take([index])
        return images[0], label_of(labels, 0)

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The images, uint8 or float32, and labels at ``indices``."""
        chosen = torch.as_tensor(indices)
        return pixels(self.images[chosen].contiguous()), self.labels[chosen]

    def digest(self) -> str:
        """Digest of all images and labels."""
        return digest_of(self.images, self.labels)


class Part:
    """One part of a division: some samples of a data set.

    Args:
        samples: the whole data set.
        indices: (n,) indices of the chosen samples.
        classes: (k,) sorted; keep only these classes and number them 0 to k - 1. None keeps all classes and numbers.
        change: of the labels, e.g. their standardisation; None keeps them as they are.

    Example:
        >>> whole = Arrays(torch.zeros(4, 1, 2, 2), torch.tensor([0, 7, 7, 3]))
        >>> Part(whole, torch.tensor([0, 1, 3]), classes=torch.tensor([3, 7])).labels.tolist()
        [1, 0]
    """

    def __init__(
        self,
        samples: Samples,
        indices: Tensor,
        classes: Tensor | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        labels = samples.labels[indices] if change is None else change(samples.labels[indices])
        if classes is not None:
            known = torch.isin(labels, classes)
            indices, labels = indices[known], torch.searchsorted(classes, labels[known])
        self.samples, self.indices, self.labels = samples, indices, labels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, Label]:
        image, own = self.samples[int(self.indices[index])]
        return image, own if isinstance(self.samples, MaskedSamples) else label_of(self.labels, index)

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The images and labels at ``indices`` of this part."""
        chosen = torch.as_tensor(indices)
        taken = self.samples.take(self.indices[chosen].tolist())
        return taken if isinstance(self.samples, MaskedSamples) else taken and (taken[0], self.labels[chosen])

    def digest(self) -> str:
        """Digest of the whole data set and of which of its samples are in this part."""
        return f"{self.samples.digest()}{digest_of(self.indices, self.labels)}"
