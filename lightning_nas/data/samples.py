"""Where images come from: samples by index, in memory or on the disk, and parts of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Samples(Protocol):
    """A map-style data set whose labels are known without reading the images.

    Attributes:
        labels: (n,) int64.
    """

    labels: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """One image, as its transform wants it, and its label."""

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """Many images (N, C, H, W) and labels (N,) at once, or None where they must be read one by one."""


def as_they_are(images: Tensor) -> Tensor:
    """The identity."""
    return images


@dataclass(frozen=True)
class Transform:
    """What is done to images.

    Attributes:
        image: applied to one image, may be random; None where there is nothing to do. Gives a tensor (C, H, W).
        batch: applied to tensors (..., C, H, W), the same for all images of a batch and therefore not random.
        zero: one value per channel, of pixels from 0 to 1, that ``batch`` makes zero.
    """

    image: Callable[[Any], Tensor] | None = None
    batch: Callable[[Tensor], Tensor] = as_they_are
    zero: Sequence[float] = (0.0,)


class Arrays:
    """Images held in memory.

    Args:
        images: (n, C, H, W), uint8 or float32.
        labels: (n,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The images and labels at ``indices``."""
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


class Part:
    """Some samples of another data set.

    Args:
        samples: the whole.
        indices: (n,) which of them.
        classes: (k,) keep these classes only and number them 0 to k - 1; None keeps all as they are.

    Example:
        >>> whole = Arrays(torch.zeros(4, 1, 2, 2), torch.tensor([0, 7, 7, 3]))
        >>> Part(whole, torch.tensor([0, 1, 3]), classes=torch.tensor([3, 7])).labels.tolist()
        [1, 0]
    """

    def __init__(self, samples: Samples, indices: Tensor, classes: Tensor | None = None) -> None:
        labels = samples.labels[indices]
        if classes is not None:
            known = torch.isin(labels, classes)
            indices, labels = indices[known], torch.searchsorted(classes, labels[known])
        self.samples, self.indices, self.labels = samples, indices, labels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image, _ = self.samples[int(self.indices[index])]
        return image, int(self.labels[index])

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor] | None:
        """The images and labels at ``indices`` of this part."""
        chosen = torch.as_tensor(indices)
        taken = self.samples.take(self.indices[chosen].tolist())
        return taken and (taken[0], self.labels[chosen])
