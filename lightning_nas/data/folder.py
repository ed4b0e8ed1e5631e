"""Images in folders, one folder per class, decoded when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Unpack

import torch
from annotated_types import Interval
from PIL import Image
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from lightning_nas.data.augmented import AugmentedImages, ImageStep
from lightning_nas.data.folder_layout import Layout, read_layout
from lightning_nas.data.image_files import Findings, check_files, mixed_units, read_image
from lightning_nas.data.options import FolderOptions, ImageNetOptions, Share, ShareOrAll, option
from lightning_nas.data.preprocessing import Preprocessing
from lightning_nas.data.samples import Part
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import BatchSize, Finite, Side, Workers

log = logging.getLogger(__name__)

MODES: dict[int, Literal["L", "RGB"]] = {1: "L", 3: "RGB"}
"""Pillow's mode by the number of channels."""

SMALL = 64
"""Pixels of height and width up to which training images are padded and cropped, as CIFAR's are."""
_LARGEST = 16_384  # pixels of a shorter side

Jitter = Annotated[float, Interval(ge=0, le=1)]
"""Strength of random brightness, contrast and saturation: 0.4 draws each from 0.6 to 1.4 times that of the image."""


class Folder:
    """Images of known files, one class a sub-folder.

    Args:
        files: of the images.
        labels: the class of each.
        mode: Pillow's, "RGB" or "L".
        floating: give images as tensors of floats, since some files have more than 8 bits.
        digest: of the contents of all files.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        mode: Literal["L", "RGB"],
        *,
        floating: bool = False,
        digest: str = "",
    ) -> None:
        self.paths, self.mode, self.floating, self._digest = list(files), mode, floating, digest
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, int]:
        path = self.paths[index]
        try:
            return read_image(path, self.mode, floating=self.floating), int(self.labels[index])
        except Exception as reason:  # noqa: BLE001 - Pillow passes on any error of its parsers at a damaged file
            raise DataError(f"cannot decode {shown(path)}: {shown(str(reason))}") from None

    def take(self, indices: Sequence[int]) -> None:
        """None, since images are decoded one by one."""

    def digest(self) -> str:
        """Digest of the contents of all files."""
        return self._digest


def _unzipped(found: Sequence[tuple[Path, int]]) -> tuple[list[Path], list[int]]:
    return [file for file, _ in found], [label for _, label in found]


class ImageFolder(AugmentedImages):
    """Images in ``root/CLASS/``, or in ``root/train/CLASS/`` and, where there are, ``root/test/`` and ``root/val/``.

    A ``val`` folder without a ``test`` folder is the test part, as with ImageNet; without both, shares of the training
    images are. Hidden files, and those whose name does not end like an image's, are left out. All files are decoded
    once before anything is trained (of more than 4 GiB together, only their headers are read); what was found is
    cached in ``$LIGHTNING_NAS_CACHE`` until a file changes.

    Small training images, of up to 64 pixels, are scaled, padded by an eighth and cropped at random, as is usual on
    CIFAR (He et al., 2016, arXiv:1512.03385, section 4.2); larger ones are a random window scaled to ``image_size``
    ("Inception crop", Szegedy et al., 2015, arXiv:1409.4842). Other images are scaled and cropped at the centre.

    Pixels of 8 bits are divided by 255 and those of 16 bits by 65,535; grey values of 32 bits are taken as they are.
    Palettes, CMYK, ... become colours, and transparent parts white. A mode that is none of these (LAB) is refused.

    Batches are ``(x, y)``: x float32 (N, C, H, W) with mean 0 and standard deviation 1 by channel, y int64 (N,), the
    position of the class folder in alphabetical order.

    Args:
        root: the folder; must be given.
        image_size: height and width of the images in a batch; must be given.
        channels: 3 for colour, 1 for grey.
        min_scale: smallest share of the picture that a training window covers; None pads and crops images of up to 64
            pixels, and is 0.08 for larger ones.
        jitter: strength of random brightness, contrast and saturation of training images, at most 1; 0 for none.
        crop_ratio: share of the shorter side that the centre crop keeps; None is 1 for images of up to 64 pixels and
            0.875 for larger ones.
        flip: mirror training images left to right with probability 1/2; None does so for colour images, unless every
            class is named by one character, as digits and letters are.
        skip_unreadable: leave out images that cannot be decoded, with a warning.
        num_workers: processes that prepare batches; they change only the speed.
        options: of :class:`~lightning_nas.data.augmented.AugmentedImages`.

    Raises:
        DataError: in ``setup``, if ``root`` or ``image_size`` is None, there are no images, a file cannot be decoded, a
            class is empty, or a test class is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for number in range(40):
        ...         folder = Path(root) / "train" / ("cat" if number % 2 else "dog")
        ...         folder.mkdir(parents=True, exist_ok=True)
        ...         Image.new("RGB", (20, 20), (6 * number, 0, 0)).save(folder / f"{number}.png")
        ...     data = ImageFolder(root=root, image_size=16, batch_size=4, num_workers=0)
        ...     data.setup()
        >>> data.shape, data.num_classes, data.sizes
        ((3, 16, 16), 2, {'weights': 22, 'arch': 6, 'val': 4, 'test': 8})
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        image_size: Side | None = None,
        channels: Literal[1, 3] = 3,
        min_scale: ShareOrAll | None = None,
        jitter: Jitter = 0.0,
        crop_ratio: ShareOrAll | None = None,
        flip: bool | None = None,
        skip_unreadable: bool = False,
        num_workers: Workers = 2,
        **options: Unpack[FolderOptions],
    ) -> None:
        super().__init__(image_size=image_size, channels=channels, num_workers=num_workers, flip=bool(flip), **options)
        self._side = image_size or 0
        self.root, self.mode, self._flip = root, MODES[channels], flip
        self.min_scale, self.jitter, self.crop_ratio = min_scale, jitter, crop_ratio
        self.skip_unreadable = skip_unreadable
        if self._shorter_side > _LARGEST:
            raise DataError(
                f"{option('crop_ratio', f'{crop_ratio:g}')} scales images to {self._shorter_side:,} pixels before the "
                f"crop of {self._side}; legal: at least {self._side / _LARGEST:.3g}"
            )

    def load(self) -> Images:
        if self.root is None:
            raise DataError(
                f"{option('root', 'FOLDER')} is needed: a folder of class folders, or one that holds train/CLASS/ and, "
                "for the test, test/CLASS/"
            )
        if self.image_size is None:
            raise DataError(f"{option('image_size', 'PIXELS')} is needed: images in folders are scaled to one size")
        layout = read_layout(Path(self.root).expanduser())
        for note in layout.notes:
            log.info("%s", note)
        for doubt in layout.doubts:
            self.doubt(doubt)
        findings = self._checked(layout)
        self.class_names = layout.classes
        if self._flip is None:
            self.flip = self.mode == "RGB" and not all(len(name) == 1 for name in layout.classes)
        if empty := self._empty_class(layout, findings):
            raise DataError(empty)
        floating = set(findings.units) != {"bytes"}
        left = {
            part: [(file, label) for file, label in found if layout.name(file) not in findings.unreadable]
            for part, found in layout.files.items()
        }
        parts = {
            part: Folder(*_unzipped(found), self.mode, floating=floating, digest=findings.digest)
            for part, found in left.items()
        }
        if "val" in parts and "test" not in parts:
            parts["test"] = parts.pop("val")
        return Images(**parts)

    def _checked(self, layout: Layout) -> Findings:
        """Look at all files, before anything is trained.

        Raises:
            DataError: files that cannot be decoded or have no common scale.
        """
        files = [file for found in layout.files.values() for file, _ in found]
        findings = check_files(layout.root, files, whole=self.skip_unreadable)
        if not findings.decoded:
            log.info("more than 4 GiB of images: only their headers are checked before the run")
        if findings.unreadable:
            name, reason = next(iter(findings.unreadable.items()))
            first = f"{shown(layout.root / name)}: {shown(reason, 160)}"
            count = f"{len(findings.unreadable):,} of {len(files):,} images"
            if not self.skip_unreadable:
                skip = option("skip_unreadable", "true")
                raise DataError(f"{count} cannot be decoded, first {first}; repair or remove them, or set {skip}")
            self.doubt(f"{count} cannot be decoded and are left out, first {first}")
        if mixed := mixed_units(findings):
            raise DataError(f"the images have no common scale: {mixed}; convert all to one kind")
        if {"bytes", "16 bits"} <= set(findings.units):
            self.doubt("some images have 8 bits, some 16; each is divided by its largest value, 255 or 65,535")
        if pages := findings.doubts.get("pages"):
            self.doubt(f"{pages:,} of {len(files):,} images have several pages; the first is read")
        if rotated := findings.doubts.get("rotated"):
            self.doubt(
                f"{rotated:,} of {len(files):,} images are marked as rotated by their camera (EXIF); pixels are taken "
                "as they are stored"
            )
        return findings

    def _empty_class(self, layout: Layout, findings: Findings) -> str:
        """What is wrong with the first class without a training image; empty if nothing is, or it was asked for."""
        files = [(file, label) for file, label in layout.files["train"] if layout.name(file) not in findings.unreadable]
        there = {label for _, label in files}
        missing = [name for number, name in enumerate(layout.classes) if number not in there]
        if not missing or self._num_classes == len(layout.classes):
            return ""
        if not there:
            return f"no images in {shown(layout.train)}; legal are {', '.join(IMG_EXTENSIONS)}"
        return (
            f"the class {shown(Path(missing[0]))} has no images in {shown(layout.train)}; remove the folder, or set "
            f"{option('num_classes', str(len(layout.classes)))} to keep the class"
        )

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        size, small = self._side, self._side <= SMALL
        evaluation: list[ImageStep] = [v2.Resize(self._shorter_side), v2.CenterCrop(size)]
        if self.min_scale is None and small:
            training: list[ImageStep] = [v2.Resize(size), v2.RandomCrop(size, padding=size // 8)]
        else:
            training = [v2.RandomResizedCrop(size, scale=(self.min_scale or 0.08, 1.0))]
        if self.jitter:
            training.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        return [*training, v2.PILToTensor()], [*evaluation, v2.PILToTensor()]

    @property
    def _shorter_side(self) -> int:
        """Pixels to which the shorter side is scaled before the centre is cut out."""
        size = self._side
        return round(size / (self.crop_ratio or (1.0 if size <= SMALL else 0.875)))

    def preprocessing(self) -> Preprocessing:
        if self._has_own_transforms(ImageFolder.geometry):
            return super().preprocessing()
        files = self._of(searched=False).parts["test"].samples
        floating = isinstance(files, Folder) and files.floating
        return self._of_pictures("floats" if floating else "bytes", self.mode, self._shorter_side)


class ImageNet(ImageFolder):
    """ImageNet's 1,000 classes (Russakovsky et al., 2015, arXiv:1409.0575), unpacked into train/ and val/ folders.

    The folder val/ is the test part; ``val_fraction`` of the training images validates. Batches are as those of
    :class:`ImageFolder`, normalised by the mean and standard deviation of ImageNet.

    Args:
        image_size: height and width of the images in a batch.
        num_classes: number of class folders; None takes what is there.
        batch_size: images per batch and process.
        val_fraction: share of the training images for validation.
        min_scale: smallest share of the picture that a training window covers.
        crop_ratio: share of the shorter side that the centre crop keeps.
        flip: mirror training images left to right with probability 1/2.
        jitter: strength of random brightness, contrast and saturation of training images, at most 1; 0 for none.
        mean: of each channel, of pixels from 0 to 1.
        std: standard deviation of each channel.
        num_workers: processes that prepare batches; they change only the speed.
        download: must be false, the licence forbids it; obtain the images from image-net.org.
        options: of :class:`ImageFolder`.

    Raises:
        DataError: ``download`` is true; in ``setup``, as :class:`ImageFolder`.

    Example:
        >>> data = ImageNet(root="imagenet", search_classes=100)
        >>> data.image_size, data.batch_size
        (224, 128)
    """

    def __init__(
        self,
        *,
        image_size: Side | None = 224,
        num_classes: PositiveInt | None = 1000,
        batch_size: BatchSize = 128,
        val_fraction: Share = 0.01,
        min_scale: ShareOrAll | None = 0.08,
        crop_ratio: ShareOrAll | None = 0.875,
        flip: bool | None = True,
        jitter: Jitter = 0.4,
        mean: Sequence[Finite] | None = (0.485, 0.456, 0.406),
        std: Sequence[PositiveFloat] | None = (0.229, 0.224, 0.225),
        num_workers: Workers = 8,
        download: bool = False,
        **options: Unpack[ImageNetOptions],
    ) -> None:
        if download:
            folder = option("root", "FOLDER")
            raise DataError(f"ImageNet cannot be downloaded freely; unpack it yourself and set {folder}")
        super().__init__(
            image_size=image_size,
            num_classes=num_classes,
            batch_size=batch_size,
            val_fraction=val_fraction,
            min_scale=min_scale,
            crop_ratio=crop_ratio,
            flip=flip,
            jitter=jitter,
            mean=mean,
            std=std,
            num_workers=num_workers,
            **options,
        )
