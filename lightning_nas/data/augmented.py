"""Images with the usual augmentation: flips, crops, cutout, normalisation by channel."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torchvision.transforms import v2

from lightning_nas.data.module import ImageData
from lightning_nas.data.options import AugmentedOptions, ImageOptions, option
from lightning_nas.data.samples import Part, Transform
from lightning_nas.data.transforms import Cutout, Finish, moments
from lightning_nas.errors import DataError
from lightning_nas.training.seeding import generator

ImageStep = Callable[[Any], Tensor]
"""A step of the transform of one image."""

_SAMPLED = 512


class AugmentedImages(ImageData):
    """Images that are normalised by channel and, for training, flipped and cut out at random.

    Args:
        flip: mirror training images left to right with probability 1/2; not for digits and letters.
        cutout: side of a square that is painted over in every training image; 0 for none.
        mean: of each channel, of pixels from 0 to 1; None takes it from the training images, or from 512 of them where
            they are read one by one.
        std: standard deviation of each channel; None as for ``mean``.
        options: of :class:`~lightning_nas.data.module.ImageData`.
    """

    def __init__(
        self,
        *,
        flip: bool = True,
        cutout: NonNegativeInt = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.flip, self.cutout = flip, cutout
        self.mean, self.std = mean and list(mean), std and list(std)

    @abstractmethod
    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        """Steps that turn training images like those of ``part`` into tensors of one size, and steps for all others."""

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        training, evaluation = self.geometry(part)
        mean, std = self._normalisation(part, _composed(evaluation))
        if self.flip:
            training.append(v2.RandomHorizontalFlip())
        if self.cutout:
            training.append(Cutout(self.cutout, mean))
        finish = Finish(mean, std)
        return Transform(_composed(training), finish, mean), Transform(_composed(evaluation), finish, mean)

    def _normalisation(self, part: Part, step: ImageStep | None) -> tuple[Sequence[float], Sequence[float]]:
        mean, std = self.mean, self.std
        if mean is None or std is None:
            found = moments(self._sampled(part, step))
            mean, std = mean or found[0], std or found[1]
        image, _ = part[0]
        channels = (step(image) if step else image).shape[0]
        for key, value in (("mean", mean), ("std", std)):
            if len(value) != channels:
                raise DataError(f"{option(key)} has {len(value)} values, but the images have {channels} channels")
        if min(std) <= 0:
            raise DataError(f"{option('std')} is {list(std)}; a standard deviation must be above 0")
        return mean, std

    def _sampled(self, part: Part, step: ImageStep | None) -> Tensor:
        if taken := part.take(range(len(part))):
            return taken[0]
        order = torch.randperm(len(part), generator=generator(self.seed, "normalisation"))
        images = [part[i][0] for i in order[:_SAMPLED].tolist()]
        return torch.stack([step(image) if step else image for image in images])


def _composed(steps: list[ImageStep]) -> ImageStep | None:
    """All steps as one; None for no steps, so that whole batches can be transformed at once."""
    if not steps:
        return None
    return v2.Compose(steps) if len(steps) > 1 else steps[0]


class InMemoryImages(AugmentedImages):
    """Images of one size, held in memory.

    Args:
        crop_padding: pad training images by this many black pixels on each side and crop a random window; 0 for none.
        options: of :class:`AugmentedImages`.
    """

    def __init__(self, *, crop_padding: NonNegativeInt = 0, **options: Unpack[AugmentedOptions]) -> None:
        super().__init__(**options)
        self.crop_padding = crop_padding

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        height, width = part[0][0].shape[-2:]
        crop = v2.RandomCrop((height, width), padding=self.crop_padding)
        return ([crop] if self.crop_padding else []), []
