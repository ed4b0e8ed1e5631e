"""Scenes composed of scikit-learn's digits, with a class for each pixel; nothing is downloaded."""

from __future__ import annotations

from typing import Annotated, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeInt, PositiveInt
from sklearn.datasets import load_digits
from torch import Tensor

from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.masks import MaskedArrays
from lightning_nas.data.options import ImageSize, KnownOptions, option
from lightning_nas.data.samples import Samples
from lightning_nas.data.split import Images, stratified
from lightning_nas.errors import DataError
from lightning_nas.ranges import Targets, Width
from lightning_nas.training.seeding import generator

_DIGIT = 8  # pixels of a side
_INK = 4  # of 16 greys, from which on a pixel belongs to the digit
_NOISE = 64  # of 256 greys, below which the background is


class DigitScenes(InMemoryImages):
    """Grey scenes of handwritten digits in two sizes on noise, and the digit that each pixel belongs to.

    Each scene is a canvas of uniform noise from 0 to 63 with 1 to ``digits`` digits, one after another: each is drawn
    from scikit-learn's 1,797 digits of 8 x 8 pixels, in its own size or, with probability 1/2 where the canvas has 16
    pixels, twice that size; its place is uniform, its brightness uniform from 50 to 100 % (of 255). Pixels of at least
    a quarter of the full ink are the digit's: they replace what was there, in the image and in the mask. Class 0 is the
    background, class 1 + d digit d.

    Training, validation and test scenes are composed of different handwritten digits: the 1,797 are divided in the same
    shares as the scenes. All is a function of ``seed``.

    Batches are ``(x, y)``: x float32 (N, 1, H, W) with mean 0 and standard deviation 1 over the training scenes, y
    int64 (N, H, W) from 0 to 10.

    Source of the digits: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set). That
    digits of several sizes are on one canvas makes the scale of the context matter, as in photographs of streets.

    Args:
        scenes: number of all scenes together.
        digits: largest number of digits on a scene.
        crop_padding: pad training scenes by this many pixels on each side, which count as no class, and crop a random
            window.
        flip: mirror training scenes; a mirrored digit is no digit.
        image_size: height and width of the canvas, or both; at least 8.
        channels: number of channels, for the configuration; no other value fits.
        num_classes: number of classes, likewise.
        options: of :class:`~lightning_nas.data.augmented.InMemoryImages`.

    Raises:
        DataError: a canvas smaller than a digit; in ``setup``, if a part is too small for the batch size.

    Example:
        >>> data = DigitScenes(scenes=100, batch_size=8)
        >>> data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((1, 32, 32), 11, {'weights': 56, 'arch': 14, 'val': 10, 'test': 20})
        >>> x, y = next(iter(data.test_dataloader()))
        >>> x.shape, y.shape, y.dtype
        (torch.Size([8, 1, 32, 32]), torch.Size([8, 32, 32]), torch.int64)
    """

    defaults: ClassVar[KnownOptions] = {"batch_size": 16}
    offers: ClassVar[tuple[Targets, ...] | None] = ("masks",)
    targets: Targets = "masks"

    def __init__(
        self,
        *,
        scenes: Annotated[int, Interval(ge=10, le=1_000_000)] = 800,
        digits: Annotated[int, Interval(ge=1, le=100)] = 4,
        crop_padding: NonNegativeInt = 0,
        flip: bool = False,
        image_size: ImageSize | None = 32,
        channels: Width | None = 1,
        num_classes: PositiveInt | None = 11,
        **options: Unpack[KnownOptions],
    ) -> None:
        super().__init__(
            crop_padding=crop_padding,
            flip=flip,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            **DigitScenes.defaults | options,
        )
        size = 32 if image_size is None else image_size
        self._canvas = (size, size) if isinstance(size, int) else (size[0], size[1])
        if min(self._canvas) < _DIGIT:
            raise DataError(f"{option('image_size', str(image_size))}: a digit has 8 x 8 pixels; legal: at least 8")
        self.scenes, self.digits = scenes, digits

    def load(self) -> Images:
        pixels, labels = load_digits(return_X_y=True)
        ink, digit = torch.from_numpy(pixels).reshape(-1, _DIGIT, _DIGIT), torch.from_numpy(labels).long()
        self.class_names = ["background", *map(str, range(10))]
        shares = {"test": self.test_fraction, "val": self.val_fraction}
        own = dict(zip((*shares, "train"), stratified(digit, list(shares.values()), self.seed), strict=True))
        sizes = {name: round(share * self.scenes) for name, share in shares.items()}
        sizes["train"] = self.scenes - sum(sizes.values())
        parts = dict[str, Samples]()
        for name, count in sizes.items():
            if not count:
                raise DataError(f"{option('scenes', str(self.scenes))} leaves none for the {name} part; raise it")
            rng = generator(self.seed, "scenes", name)
            made = [_composed(ink[own[name]], digit[own[name]], self._canvas, self.digits, rng) for _ in range(count)]
            images, masks = (torch.stack(part) for part in zip(*made, strict=True))
            parts[name] = MaskedArrays(images[:, None], masks, f"the {name} scenes")
        return Images(**parts)


def _composed(
    ink: Tensor, labels: Tensor, canvas: tuple[int, int], most: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A scene and its mask, both (H, W), uint8, of digits (n, 8, 8) from 0 to 16 and their labels (n,)."""

    def drawn(below: int) -> int:
        return int(torch.randint(below, (), generator=rng))

    image = torch.randint(_NOISE, canvas, generator=rng, dtype=torch.uint8)
    mask = torch.zeros(canvas, dtype=torch.uint8)
    for _ in range(1 + drawn(most)):
        chosen = drawn(len(labels))
        factor = 1 + drawn(2) if min(canvas) >= 2 * _DIGIT else 1
        digit = ink[chosen].repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        top, left = (drawn(side - factor * _DIGIT + 1) for side in canvas)
        window = (slice(top, top + factor * _DIGIT), slice(left, left + factor * _DIGIT))
        brightness = 0.5 + 0.5 * float(torch.rand((), generator=rng))
        own = digit >= _INK
        image[window][own] = (digit * (255 / 16 * brightness)).round().to(torch.uint8)[own]
        mask[window][own] = 1 + int(labels[chosen])
    return image, mask
