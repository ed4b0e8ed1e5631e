"""Images and masks in folders, decoded when they are needed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Unpack

import torch
from annotated_types import Interval, MinLen
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from lightning_nas.data.augmented import FILL, AugmentedImages, ImageStep
from lightning_nas.data.folder import MODES
from lightning_nas.data.image_files import check_files, mixed_units, read_image
from lightning_nas.data.mask_files import Colour, MaskLook, check_masks, read_mask, read_pairs
from lightning_nas.data.options import FolderOptions, ImageSize, option
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.samples import MaskedSamples, Part, Samples
from lightning_nas.data.split import Images
from lightning_nas.data.transforms import PadTo
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import UNLABELLED, Targets, Workers

log = logging.getLogger(__name__)

_Byte = Annotated[int, Interval(ge=0, le=255)]
Colours = Annotated[Sequence[tuple[_Byte, _Byte, _Byte]], MinLen(1)]
"""Colours [red, green, blue]."""


class MaskedFiles(MaskedSamples):
    """Image files and their mask files.

    Args:
        pairs: paths of images and masks.
        looks: what was found in the masks.
        mode: Pillow's, "RGB" or "L".
        colours: class by colour; None for masks that hold the classes.
        floating: give images as tensors of floats, since some files have more than 8 bits.
        digest: of the contents of all image files.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        looks: Sequence[MaskLook],
        mode: Literal["L", "RGB"],
        colours: dict[Colour, int] | None,
        *,
        floating: bool,
        digest: str,
    ) -> None:
        self.pairs, self.mode, self.colours, self.floating = list(pairs), mode, colours, floating
        self.counts = torch.stack([look.row() for look in looks])
        self.labels = torch.zeros(len(pairs), dtype=torch.int64)
        self.sizes = [look.size for look in looks]
        self._digest = hashlib.sha256(repr((digest, colours, [look.digest for look in looks])).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, Tensor]:
        picture, mask = self.pairs[index]
        path = picture
        try:
            image = read_image(picture, self.mode, floating=self.floating)
            path = mask
            return image, Mask(read_mask(mask, self.colours))
        except Exception as reason:  # noqa: BLE001 - Pillow passes on any error of its parsers at a damaged file
            raise DataError(f"cannot decode {shown(path)}: {shown(str(reason))}") from None

    def take(self, indices: Sequence[int]) -> None:
        """None, since images are decoded one by one."""

    def name(self, index: int) -> str:
        return shown(self.pairs[index][1])

    def digest(self) -> str:
        """Digest of the contents of all files."""
        return self._digest[:32]


class SegmentationFolder(AugmentedImages):
    """Images with masks, a class for each pixel: ``root/images/`` and ``root/masks/`` with files of the same names.

    Or these two in ``root/train/`` and, where there are such parts, ``root/val/`` and ``root/test/``. A ``val`` folder
    without a ``test`` folder is the test part; without both, shares of the training images are. Masks are PNG files
    (or others that keep every value): grey values or palette numbers are the classes from 0 on, 255 is for pixels
    without a class; with ``colours`` the colours are. Every mask is decoded once before anything is trained; what was
    found is cached in ``$LIGHTNING_NAS_CACHE`` until a file changes.

    Evaluation is at full size: images smaller than ``image_size`` are padded at the bottom and on the right, by pixels
    that count as no class. Training images are windows of ``crop`` at random places, or the same as in evaluation.
    Image and mask are changed together, by torchvision's ``tv_tensors``.

    Batches are ``(x, y)``: x float32 (N, C, H, W) with mean 0 and standard deviation 1 by channel, y int64 (N, H, W).

    Args:
        root: the folder; must be given.
        image_size: height and width of evaluation, or both; None takes the largest of all images.
        crop: height and width of training windows, or both; None trains at full size.
        channels: 3 for colour, 1 for grey.
        colours: [red, green, blue] of each class, in their order, for masks in colour; None for masks of numbers.
        unlabelled: further colours, of pixels without a class.
        flip: mirror training images left to right with probability 1/2.
        num_workers: processes that prepare batches; they change only the speed.
        options: of :class:`~lightning_nas.data.augmented.AugmentedImages`.

    Raises:
        DataError: ``unlabelled`` without ``colours``, or a colour twice; in ``setup``, if ``root`` is None or there are
            no such folders, an image has no mask, a file cannot be decoded, a mask has another size than its image, a
            value or colour that is no class, or no labelled pixel. Names the file.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for number in range(40):
        ...         for name, shape in (("images", (20, 30, 3)), ("masks", (20, 30))):
        ...             (Path(root) / name).mkdir(exist_ok=True)
        ...             drawn = rng.integers(0, 4, shape, np.uint8)
        ...             Image.fromarray(drawn).save(f"{root}/{name}/{number}.png")
        ...     data = SegmentationFolder(root=root, crop=16, batch_size=4, num_workers=0)
        ...     data.setup()
        ...     y = data.retrain_loader(lambda: 0).batches[0][1]
        >>> data.shape, data.num_classes, data.sizes, tuple(y.shape)
        ((3, 20, 30), 4, {'weights': 22, 'arch': 6, 'val': 4, 'test': 8}, (4, 16, 16))
    """

    defaults: ClassVar[FolderOptions] = {"batch_size": 16}
    offers: ClassVar[tuple[Targets, ...] | None] = ("masks",)
    targets: Targets = "masks"

    def __init__(
        self,
        *,
        root: str | None = None,
        image_size: ImageSize | None = None,
        crop: ImageSize | None = None,
        channels: Literal[1, 3] = 3,
        colours: Colours | None = None,
        unlabelled: Colours | None = None,
        flip: bool = True,
        num_workers: Workers = 2,
        **options: Unpack[FolderOptions],
    ) -> None:
        super().__init__(
            image_size=image_size,
            channels=channels,
            num_workers=num_workers,
            flip=flip,
            **SegmentationFolder.defaults | options,
        )
        self.root, self.mode, self.crop = root, MODES[channels], crop
        self.colours, self.unlabelled = colours, unlabelled
        self._table: dict[Colour, int] | None = None
        if unlabelled and not colours:
            raise DataError(f"{option('unlabelled')} needs {option('colours')}, the colour of each class")
        if colours:
            listed = [*enumerate(colours), *((UNLABELLED, colour) for colour in unlabelled or ())]
            self._table = {(red, green, blue): value for value, (red, green, blue) in listed}
            if len(self._table) < len(listed):
                raise DataError(f"{option('colours')} names a colour twice; legal: one for each class")
        self._full = (0, 0)

    def load(self) -> Images:
        if self.root is None:
            raise DataError(f"{option('root', 'FOLDER')} is needed: a folder that holds images/ and masks/")
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(f"there is no folder {shown(root)}; it must hold images/ and masks/")
        parts = read_pairs(root)
        files = [image for pairs in parts.values() for image, _ in pairs]
        findings = check_files(root, files)
        if findings.unreadable:
            name, reason = next(iter(findings.unreadable.items()))
            raise DataError(f"{shown(root / name)} cannot be decoded: {shown(reason, 160)}; repair or remove it")
        if mixed := mixed_units(findings):
            raise DataError(f"the images have no common scale: {mixed}; convert all to one kind")
        looks = check_masks([pair for pairs in parts.values() for pair in pairs], self._table)
        self._full = self._size([look.size for look in looks], files)
        if self._table is not None and self._num_classes is None:
            self._num_classes = len(self.colours or ())
        floating, made, start = set(findings.units) != {"bytes"}, dict[str, Samples](), 0
        for part, pairs in parts.items():
            own = looks[start : start + len(pairs)]
            start += len(pairs)
            made[part] = MaskedFiles(pairs, own, self.mode, self._table, floating=floating, digest=findings.digest)
        if "val" in made and "test" not in made:
            made["test"] = made.pop("val")
        return Images(**made)

    def _size(self, sizes: Sequence[tuple[int, int]], files: Sequence[Path]) -> tuple[int, int]:
        """Height and width of evaluation."""
        given = self.image_size
        if given is None:
            return max(height for height, _ in sizes), max(width for _, width in sizes)
        full = (given, given) if isinstance(given, int) else (given[0], given[1])
        named = option("image_size", f"[{full[0]},{full[1]}]")
        for file, (height, width) in zip(files, sizes, strict=True):
            if height > full[0] or width > full[1]:
                raise DataError(
                    f"{shown(file)} has {height}x{width} pixels, more than {named}; legal: at least the largest image, "
                    "or null"
                )
        return full

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        evaluation: list[ImageStep] = [PadTo(self._full), v2.PILToTensor()]
        if self.crop is None:
            return [*evaluation], evaluation
        size = (self.crop, self.crop) if isinstance(self.crop, int) else tuple(self.crop)
        return [v2.RandomCrop(size, pad_if_needed=True, fill=FILL), v2.PILToTensor()], evaluation

    def preprocessing(self) -> Preprocessing:
        samples = self._of(searched=False).parts["test"].samples
        assert isinstance(samples, MaskedFiles)
        if self._has_own_transforms(SegmentationFolder.geometry) or set(samples.sizes) != {self._full}:
            return super().preprocessing()  # pictures are padded, not scaled
        return self._of_pictures("floats" if samples.floating else "bytes", self.mode)
