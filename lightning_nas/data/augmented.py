"""Images with the usual augmentation: flips, crops, cutout, normalisation by channel."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from lightning_nas.data.checks import check_pixels
from lightning_nas.data.module import ImageData
from lightning_nas.data.options import AugmentedOptions, ImageOptions, option
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.samples import Part, Transform, piece_length
from lightning_nas.data.transforms import Cutout, Finish, PadTo, moments
from lightning_nas.errors import DataError
from lightning_nas.ranges import UNLABELLED, Finite
from lightning_nas.training.seeding import generator

ImageStep = Callable[[Any], Tensor]
"""A step of the transform of one image."""

FILL = {Mask: UNLABELLED, "others": 0}
"""Pixels that are added around an image, and around its mask."""
_SAMPLED = 512
_STEPS = 2.0**-17  # of the mean: a spread of 64 steps of a number of 32 bits


class AugmentedImages(ImageData):
    """Images that are normalised by channel and, for training, flipped and cut out at random.

    Args:
        flip: mirror training images left to right with probability 1/2; not for digits and letters.
        cutout: side of a square that is painted over in every training image; 0 for none; at most the shorter side.
        mean: of each channel, of pixels from 0 to 1; None takes it from the training images, or from 512 of them where
            they are read one by one.
        std: standard deviation of each channel; None as for ``mean``.
        options: of :class:`~lightning_nas.data.module.ImageData`.

    Attributes:
        normalisation: mean and standard deviation of each channel that are used; None before ``setup``.
    """

    def __init__(
        self,
        *,
        flip: bool = True,
        cutout: NonNegativeInt = 0,
        mean: Sequence[Finite] | None = None,
        std: Sequence[PositiveFloat] | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.flip, self.cutout = flip, cutout
        if self.image_size is not None:
            size = self.image_size
            self.check_augmentation(*((size, size) if isinstance(size, int) else size))
        self.mean, self.std = (None if values is None else list(values) for values in (mean, std))
        self.normalisation: tuple[list[float], list[float]] | None = None

    @abstractmethod
    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        """Steps that turn training images like those of ``part`` into tensors of one size, and steps for all others."""

    def check_augmentation(self, height: int, width: int) -> None:
        """Refuse a cutout that is larger than the images.

        Args:
            height: of the images in a batch.
            width: likewise.

        Raises:
            DataError: names the option and the size.
        """
        named = option("cutout", str(self.cutout))
        check_pixels(named, self.cutout, min(height, width), (height, width))

    def transforms(self, part: Part) -> tuple[Transform, Transform]:
        training, evaluation = self.geometry(part)
        mean, std = self._normalisation(part, _composed(evaluation))
        if self.flip:
            training.append(v2.RandomHorizontalFlip())
        if self.cutout and self.targets == "masks":
            raise DataError(f"{option('cutout', str(self.cutout))} paints over what the masks name; legal: 0")
        if self.cutout:
            training.append(Cutout(self.cutout, mean))
        self.augmentation = ", ".join(filter(None, map(_words, training))) or "none"
        finish = Finish(mean, std)
        self.normalisation = list(mean), list(std)
        return Transform(_composed(training), finish, mean), Transform(_composed(evaluation), finish, mean)

    def _has_own_transforms(self, geometry: Callable[..., Any]) -> bool:
        """Whether this is a class of a person's own that has other transforms than one with this geometry."""
        kind = type(self)
        return kind.geometry is not geometry or kind.transforms is not AugmentedImages.transforms

    def _of_pictures(self, pixels: str, mode: str | None, shorter_side: int | None = None) -> Preprocessing:
        """The preprocessing of this class's transforms after a geometry that is known."""
        assert self.normalisation is not None, "call setup() first: it reads the data"
        mean, std = self.normalisation
        return Preprocessing.model_validate(
            {
                "kind": "images",
                "input_shape": list(self.shape),
                "classes": self.class_names or [str(number) for number in range(self.num_classes)],
                "pixels": pixels,
                "mode": mode,
                "shorter_side": shorter_side,
                "mean": [float(value) for value in mean],
                "std": [float(value) for value in std],
                **self._outputs(),
            }
        )

    def _normalisation(self, part: Part, step: ImageStep | None) -> tuple[Sequence[float], Sequence[float]]:
        mean, std = self.mean, self.std
        if mean is None or std is None:
            found = moments(self._sampled(part, step))
            mean, std = found[0] if mean is None else mean, found[1] if std is None else std
            for middle, spread in zip(*found, strict=True):
                if 0 < spread < _STEPS * abs(middle):
                    self.doubt(
                        f"pixels differ by about {spread:.3g} around {middle:.6g}, of which 32-bit numbers keep few "
                        "steps; subtract their mean before"
                    )
        image, _ = part[0]
        channels = (step(image) if step else image).shape[0]
        for key, value in (("mean", mean), ("std", std)):
            if len(value) != channels:
                raise DataError(f"{option(key)} has {len(value)} values, but the images have {channels} channels")
        return mean, std

    def _sampled(self, part: Part, step: ImageStep | None) -> Iterator[Tensor]:
        if first := part.take([0]):
            for indices in torch.split(torch.arange(len(part)), piece_length(first[0].numel())):
                if taken := part.take(indices.tolist()):
                    yield taken[0]
            return
        order = torch.randperm(len(part), generator=generator(self.seed, "normalisation"))
        images = [part[i][0] for i in order[:_SAMPLED].tolist()]
        yield torch.stack([step(image) if step else image for image in images])


def _words(step: ImageStep) -> str:
    """What a step of an augmentation does, for the log and the report; "" for one that changes no picture."""
    if isinstance(step, v2.RandomResizedCrop):
        return f"a random window of at least {step.scale[0]:.0%} of the picture"
    if isinstance(step, v2.RandomCrop) and step.padding is None:
        return f"a random window of {step.size[0]}x{step.size[1]} pixels"
    if isinstance(step, v2.RandomCrop):
        return f"padded by {step.padding[0] if isinstance(step.padding, list) else step.padding} and cropped at random"
    if isinstance(step, v2.RandomHorizontalFlip):
        return f"mirrored with probability {step.p:g}"
    if isinstance(step, Cutout):
        return f"cutout of {step.size}"
    if isinstance(step, v2.ColorJitter):
        return f"brightness, contrast and saturation changed by up to {step.brightness[1] - 1:.0%}"
    return "" if isinstance(step, (v2.Resize, v2.PILToTensor, PadTo)) else type(step).__name__


def _composed(steps: list[ImageStep]) -> ImageStep | None:
    """All steps as one; None for no steps, so that whole batches can be transformed at once."""
    if not steps:
        return None
    return v2.Compose(steps) if len(steps) > 1 else steps[0]


class InMemoryImages(AugmentedImages):
    """Images of one size, held in memory.

    Args:
        crop_padding: pad training images by this many black pixels on each side and crop a random window; 0 for none;
            less than a side, as a window without a pixel of the image shows nothing.
        options: of :class:`AugmentedImages`.
    """

    def __init__(self, *, crop_padding: NonNegativeInt = 0, **options: Unpack[AugmentedOptions]) -> None:
        self.crop_padding = crop_padding
        super().__init__(**options)

    def check_augmentation(self, height: int, width: int) -> None:
        super().check_augmentation(height, width)
        named = option("crop_padding", str(self.crop_padding))
        check_pixels(named, self.crop_padding, min(height, width) - 1, (height, width))

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        height, width = part[0][0].shape[-2:]
        self.check_augmentation(height, width)
        crop = v2.RandomCrop((height, width), padding=self.crop_padding, fill=FILL)
        return ([crop] if self.crop_padding else []), []

    def preprocessing(self) -> Preprocessing:
        if self._has_own_transforms(InMemoryImages.geometry):
            return super().preprocessing()
        image, _ = self._of(searched=False).parts["test"][0]
        pixels = "numbers" if image.is_floating_point() else "bytes"
        return self._of_pictures(pixels, {1: "L", 3: "RGB"}.get(self.shape[0]))
