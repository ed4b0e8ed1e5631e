"""Masks, a class for each pixel: their checks, their counts, and images with masks in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.tv_tensors import Mask

from lightning_nas.data.checks import Numbers
from lightning_nas.data.options import option
from lightning_nas.data.samples import Arrays, MaskedSamples, Part, Samples, digest_of, pixels
from lightning_nas.data.split import Images
from lightning_nas.data.targets import as_targets
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import UNLABELLED, Targets

_LEGAL = f"legal: 0 to {UNLABELLED - 1} for classes, and {UNLABELLED} for pixels without one"


class MaskedArrays(Arrays, MaskedSamples):
    """Images and masks held in memory.

    Args:
        images: (n, C, H, W), uint8, uint16, bool or floating point.
        masks: (n, H, W), uint8.
        where: how messages name the masks, e.g. "y_train of 'data.npz'".

    Example:
        >>> masks = torch.tensor([[[0, 1]], [[1, 255]]], dtype=torch.uint8)
        >>> samples = MaskedArrays(torch.zeros(2, 1, 1, 2), masks, "y_train")
        >>> samples.counts[:, [0, 1, 255]].tolist(), samples.take([1])[1].tolist()
        ([[1, 1, 0], [0, 1, 1]], [[[1, 255]]])
    """

    def __init__(self, images: Tensor, masks: Tensor, where: str) -> None:
        super().__init__(images, torch.zeros(len(images), dtype=torch.int64))
        self.masks, self.where = masks, where
        self.counts = counts_of(masks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return pixels(self.images[index].contiguous()), Mask(self.masks[index])

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The images, uint8 or float32, and masks, int64, at ``indices``."""
        chosen = torch.as_tensor(indices)
        return pixels(self.images[chosen].contiguous()), self.masks[chosen].long()

    def name(self, index: int) -> str:
        return f"mask {index} in {self.where}"

    def digest(self) -> str:
        """Digest of all images and masks."""
        return digest_of(self.images, self.masks)


def counts_of(masks: Tensor) -> Tensor:
    """The pixels of each value in masks (n, H, W), uint8: (n, 256), int64."""
    counted = [torch.bincount(mask.flatten(), minlength=256) for mask in masks]
    return torch.stack(counted) if counted else torch.zeros(0, 256, dtype=torch.int64)


def with_targets(images: Tensor, y: Numbers, where: str, kind: Targets) -> Arrays:
    """Images (n, C, H, W) in memory with their targets.

    Args:
        images: checked.
        y: array or tensor; of masks (n, H, W), integers.
        where: the beginning of messages, e.g. "y_train of 'data.npz'".
        kind: of the targets.

    Raises:
        DataError: targets that are not of this kind, or as many as the images; masks of another size.
    """
    if kind != "masks":
        return Arrays(images, as_targets(y, len(images), where, kind))
    return MaskedArrays(images, as_masks(y, tuple(images.shape), where), where)


def as_masks(y: Numbers, shape: Sequence[int], where: str) -> Tensor:
    """Masks as a tensor (n, H, W), uint8.

    Args:
        y: array or tensor of integers, (n, H, W) or (n, H, W, 1) or (n, 1, H, W).
        shape: (n, C, H, W) of the images.
        where: the beginning of messages.

    Raises:
        DataError: another type, another shape, or a value that is neither a class nor 255.

    Example:
        >>> as_masks(np.array([[[0, 300]]]), (1, 3, 1, 2), "y_train")
        Traceback (most recent call last):
        lightning_nas.errors.DataError: mask 0 in y_train has the value 300; legal: 0 to 254 for classes, and 255 for \
pixels without one
    """
    array = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
    if array.dtype.kind not in "iub":
        raise DataError(f"{where} has the type {shown(str(array.dtype))}; masks are integers, {_LEGAL}")
    count, _, height, width = shape
    if array.size == count * height * width and array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array.reshape(count, height, width)
    if array.shape != (count, height, width):
        raise DataError(
            f"{where} has the shape {tuple(array.shape)}; masks of these images are {(count, height, width)}, a class "
            "for each pixel (task=segmentation)"
        )
    if array.dtype != np.uint8:
        for number, mask in enumerate(array):
            if (low := int(mask.min())) < 0 or (high := int(mask.max())) > UNLABELLED:
                raise DataError(f"mask {number} in {where} has the value {low if low < 0 else high}; {_LEGAL}")
    return torch.from_numpy(np.ascontiguousarray(array, np.uint8))


def count_masks(images: Images, given: int | None) -> int:
    """Number of classes of images with masks.

    Args:
        images: the data set.
        given: the number that the user gave; None for one more than the highest value.

    Raises:
        DataError: a part without images, a mask without a labelled pixel or with a class beyond those given, or
            training masks of one class alone. Names the mask.
    """
    parts = {name: _masked(part) for name, part in images.parts.items()}
    highest = 0
    for name, part in parts.items():
        if not len(part.counts):
            raise DataError(f"the {name} part of the data set has no images")
        labelled = part.counts[:, :UNLABELLED]
        if bool((without := labelled.sum(1) == 0).any()):
            raise DataError(
                f"{part.name(int(without.nonzero()[0]))} has no pixel with a class, {UNLABELLED} everywhere; leave it "
                "out"
            )
        if given is not None and bool((unknown := labelled[:, given:].sum(1) > 0).any()):
            first = int(unknown.nonzero()[0])
            value = given + int(labelled[first, given:].nonzero()[0])
            raise DataError(
                f"{part.name(first)} has the value {value}, but {option('num_classes')} is {given}; legal: 0 to "
                f"{given - 1}, and {UNLABELLED} for pixels without a class"
            )
        highest = max(highest, int(labelled.sum(0).nonzero().max()))
    present = parts["train"].counts[:, :UNLABELLED].sum(0).nonzero().flatten().tolist()
    if len(present) < 2:
        raise DataError(f"all labelled training pixels are of one class ({present[0]}); a search needs at least two")
    return highest + 1 if given is None else given


def pixels_of(part: Part) -> Tensor:
    """The pixels of each value in the masks of a part, (256,), int64."""
    return _masked(part.samples).counts[part.indices].sum(0)


def mask_doubts(pixels: Mapping[str, Tensor], num_classes: int) -> Iterator[str]:
    """What is doubtful about masks.

    Args:
        pixels: (256,) pixels of each value, of the part "retrain" and of others, by name.
        num_classes: of the data set.

    Example:
        >>> counts = torch.zeros(256, dtype=torch.int64)
        >>> counts[[0, 2, 255]] = torch.tensor([3, 1, 6])
        >>> list(mask_doubts({"retrain": counts}, 3))
        ['no pixel to train on is of class 1', '60% of the pixels to train on have no class']
    """
    for name, counts in pixels.items():
        known, whole = counts[:num_classes], int(counts.sum())
        missing = (known == 0).nonzero().flatten().tolist()
        listed = ", ".join(map(str, missing))
        if missing and name == "retrain":
            yield f"no pixel to train on is of class {listed}"
        elif missing:
            yield f"no pixel of the {name} part is of class {listed}, so it does not count in its mIoU where unanswered"
        share = int(counts[UNLABELLED]) / max(1, whole)
        if share > 0.5 and name == "retrain":
            yield f"{share:.0%} of the pixels to train on have no class"


def _masked(samples: Samples) -> MaskedSamples:
    if not isinstance(samples, MaskedSamples):
        raise DataError(f"{type(samples).__name__} has no masks; segmentation needs a class for each pixel")
    return samples
