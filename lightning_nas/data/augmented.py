"""Data sets of pixels, with the usual augmentation."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torchvision.transforms import v2

from lightning_nas.data.module import ImageData
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.transforms import Cutout, Finish, moments
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator

Step = Callable[[Any], Tensor]

_SAMPLED = 512


class AugmentedImages(ImageData):
    """Images that are normalised by channel and, for training, also flipped and painted over.

    Args:
        flip: mirror every other training image; not for digits and letters.
        cutout: side of a square that is painted over in every training image; 0 for none.
        mean: of each channel, of pixels from 0 to 1; None takes it from the images of the search, or from 512 of them
            where they are read one by one.
        std: likewise the standard deviation.
        options: of :class:`~lightning_nas.data.module.ImageData`.
    """

    def __init__(
        self,
        *,
        flip: bool = True,
        cutout: NonNegativeInt = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.flip, self.cutout = flip, cutout
        self.mean, self.std = mean and list(mean), std and list(std)

    @abstractmethod
    def geometry(self, part: Part) -> tuple[list[Step], list[Step]]:
        """Steps that make tensors of one size of training images such as ``part`` has, and of all others."""

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        training, evaluation = self.geometry(part)
        mean, std = self._normalisation(part, _composed(evaluation))
        if self.flip:
            training.append(v2.RandomHorizontalFlip())
        if self.cutout:
            training.append(Cutout(self.cutout, mean))
        finish = Finish(mean, std)
        return Transform(_composed(training), finish, mean), Transform(_composed(evaluation), finish, mean)

    def _normalisation(self, part: Part, step: Step | None) -> tuple[Sequence[float], Sequence[float]]:
        mean, std = self.mean, self.std
        if mean is None or std is None:
            found = moments(self._sampled(part, step))
            mean, std = mean or found[0], std or found[1]
        image, _ = part[0]
        channels = (step(image) if step else image).shape[0]
        for key, value in (("mean", mean), ("std", std)):
            if len(value) != channels:
                raise DataError(f"dataset.{key} has {len(value)} values, but the images have {channels} channels")
        if min(std) <= 0:
            raise DataError(f"dataset.std is {list(std)}; a standard deviation must be above 0")
        return mean, std

    def _sampled(self, part: Part, step: Step | None) -> Tensor:
        if taken := part.take(range(len(part))):
            return taken[0]
        order = torch.randperm(len(part), generator=generator(self.seed, "normalisation"))
        images = [part[i][0] for i in order[:_SAMPLED].tolist()]
        return torch.stack([step(image) if step else image for image in images])


def _composed(steps: list[Step]) -> Step | None:
    """One step of many; None of none, so that whole batches need not be taken apart."""
    if not steps:
        return None
    return v2.Compose(steps) if len(steps) > 1 else steps[0]


class InMemoryImages(AugmentedImages):
    """AugmentedImages of one size, held in memory.

    Args:
        crop_padding: pad training images by so many black pixels on each side and crop a random window; 0 for none.
        options: of :class:`AugmentedImages`.
    """

    def __init__(self, *, crop_padding: NonNegativeInt = 0, **options: Any) -> None:
        super().__init__(**options)
        self.crop_padding = crop_padding

    def geometry(self, part: Part) -> tuple[list[Step], list[Step]]:
        height, width = part[0][0].shape[-2:]
        crop = v2.RandomCrop((height, width), padding=self.crop_padding)
        return ([crop] if self.crop_padding else []), []
