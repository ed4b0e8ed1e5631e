"""Images in folders, one folder per class, decoded when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

import torch
from PIL import Image
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.transforms import v2

from lightning_nas.data.augmented import AugmentedImages, ImageStep
from lightning_nas.data.options import FolderOptions, ImageNetOptions, Share, ShareOrAll, option
from lightning_nas.data.samples import Part
from lightning_nas.data.split import Images
from lightning_nas.errors import DataError, shown


class Folder:
    """The images below a folder whose sub-folders are classes.

    Args:
        path: the folder.
        classes: names of the sub-folders, in the order of the labels.
        mode: Pillow's, "RGB" or "L".
    """

    def __init__(self, path: Path, classes: Sequence[str], mode: str) -> None:
        if unknown := sorted({folder.name for folder in path.iterdir() if folder.is_dir()} - set(classes)):
            raise DataError(f"{shown(path)} has a class {shown(unknown[0])} without training images")
        numbers = {name: number for number, name in enumerate(classes)}
        found = make_dataset(path, numbers, extensions=IMG_EXTENSIONS, allow_empty=True)
        self.paths = [file for file, _ in found]
        self.labels, self.mode = torch.tensor([label for _, label in found], dtype=torch.int64), mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        try:
            with Image.open(self.paths[index]) as image:
                return image.convert(self.mode), int(self.labels[index])
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as reason:
            raise DataError(f"cannot decode {shown(Path(self.paths[index]))}: {shown(str(reason))}") from None

    def take(self, indices: Sequence[int]) -> None:
        """None, since images are decoded one by one."""


class ImageFolder(AugmentedImages):
    """Images in ``root/train/CLASS/``, and in ``root/test/CLASS/`` or ``root/val/CLASS/`` if there is such a part.

    A ``val`` folder without a ``test`` folder is the test part, as with ImageNet. Training images are a random window
    scaled to ``image_size`` ("Inception crop", Szegedy et al., 2015, arXiv:1409.4842); other images are scaled and
    cropped at the centre.

    Batches are ``(x, y)``: x float32 (N, C, H, W) with mean 0 and standard deviation 1 by channel, y int64 (N,), the
    position of the class folder in alphabetical order.

    Args:
        root: the folder; must be given.
        image_size: height and width of the images in a batch; must be given.
        channels: 3 for colour, 1 for grey.
        min_scale: smallest share of the picture that a training window covers.
        jitter: strength of random brightness, contrast and saturation of training images; 0 for none.
        crop_ratio: share of the shorter side that the centre crop keeps.
        num_workers: processes that prepare batches; they change only the speed.
        options: of :class:`~lightning_nas.data.augmented.AugmentedImages`.

    Raises:
        DataError: in ``setup``, if ``root`` or ``image_size`` is None, there are no images, or a test class is unknown;
            while reading, if a file cannot be decoded.

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
        image_size: PositiveInt | None = None,
        channels: Literal[1, 3] = 3,
        min_scale: ShareOrAll = 0.08,
        jitter: NonNegativeFloat = 0.0,
        crop_ratio: ShareOrAll = 0.875,
        num_workers: NonNegativeInt = 2,
        **options: Unpack[FolderOptions],
    ) -> None:
        super().__init__(image_size=image_size, channels=channels, num_workers=num_workers, **options)
        self.root, self.mode = root, {1: "L", 3: "RGB"}[channels]
        self.min_scale, self.jitter, self.crop_ratio = min_scale, jitter, crop_ratio

    def load(self) -> Images:
        if self.root is None:
            raise DataError(
                f"{option('root', 'FOLDER')} is needed: it holds train/CLASS/ and, for the test, test/CLASS/"
            )
        if self.image_size is None:
            raise DataError(f"{option('image_size', 'PIXELS')} is needed: images in folders are scaled to one size")
        root = Path(self.root).expanduser()
        if not (root / "train").is_dir():
            raise DataError(f"there is no folder {shown(root / 'train')}; {option('root')} must hold train/CLASS/")
        classes = sorted(folder.name for folder in (root / "train").iterdir() if folder.is_dir())
        parts = {
            name: Folder(root / name, classes, self.mode) for name in ("train", "val", "test") if (root / name).is_dir()
        }
        if not len(parts["train"]):
            raise DataError(f"no images in {shown(root / 'train')}; legal are {', '.join(IMG_EXTENSIONS)}")
        if "val" in parts and "test" not in parts:
            parts["test"] = parts.pop("val")
        return Images(**parts)

    def geometry(self, part: Part) -> tuple[list[ImageStep], list[ImageStep]]:
        assert self.image_size is not None, "load() refuses it"
        training = [v2.RandomResizedCrop(self.image_size, scale=(self.min_scale, 1.0))]
        if self.jitter:
            training.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        evaluation = [v2.Resize(round(self.image_size / self.crop_ratio)), v2.CenterCrop(self.image_size)]
        return [*training, v2.PILToTensor()], [*evaluation, v2.PILToTensor()]


class ImageNet(ImageFolder):
    """ImageNet's 1,000 classes (Russakovsky et al., 2015, arXiv:1409.0575), unpacked into train/ and val/ folders.

    The folder val/ is the test part; ``val_fraction`` of the training images validates. Batches are as those of
    :class:`ImageFolder`, normalised by the mean and standard deviation of ImageNet.

    Args:
        image_size: height and width of the images in a batch.
        num_classes: number of class folders; None takes what is there.
        batch_size: images per batch and process.
        val_fraction: share of the training images for validation.
        jitter: strength of random brightness, contrast and saturation of training images; 0 for none.
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
        image_size: PositiveInt | None = 224,
        num_classes: PositiveInt | None = 1000,
        batch_size: PositiveInt = 128,
        val_fraction: Share = 0.01,
        jitter: NonNegativeFloat = 0.4,
        mean: Sequence[float] | None = (0.485, 0.456, 0.406),
        std: Sequence[float] | None = (0.229, 0.224, 0.225),
        num_workers: NonNegativeInt = 8,
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
            jitter=jitter,
            mean=mean,
            std=std,
            num_workers=num_workers,
            **options,
        )
