"""Images in folders, one folder a class, decoded when they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from PIL import Image
from pydantic import NonNegativeFloat, PositiveInt
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from torchvision.transforms import v2

from lightning_nas.data.augmented import AugmentedImages, Step
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
            raise DataError(f"{shown(path)} has a class {shown(unknown[0])} that the training images lack")
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
        """None: images are read one by one."""


class ImageFolder(AugmentedImages):
    """Images in ``root/train/CLASS/``, and in ``root/test/CLASS/`` or ``root/val/CLASS/`` if there is such a part.

    A lone ``val`` is the test, as with ImageNet. Training images are a random window brought to ``image_size``
    ("Inception crop", Szegedy et al., 2015, arXiv:1409.4842), others are scaled and cropped at the centre.

    Args:
        root: the folder.
        image_size: height and width that images are brought to.
        channels: 3 for colour, 1 for grey.
        min_scale: smallest share of the picture a training window covers.
        jitter: strength of random brightness, contrast and saturation of training images; 0 for none.
        crop_ratio: share of the shorter side that the centre crop keeps.
        options: of :class:`~lightning_nas.data.augmented.AugmentedImages`.
    """

    def __init__(
        self,
        *,
        root: str | None,
        image_size: PositiveInt | None,
        channels: Literal[1, 3] = 3,
        min_scale: Annotated[float, Interval(gt=0, le=1)] = 0.08,
        jitter: NonNegativeFloat = 0.0,
        crop_ratio: Annotated[float, Interval(gt=0, le=1)] = 0.875,
        **options: Any,
    ) -> None:
        super().__init__(image_size=image_size, channels=channels, **options)
        self.root, self.mode = root, {1: "L", 3: "RGB"}[channels]
        self.min_scale, self.jitter, self.crop_ratio = min_scale, jitter, crop_ratio

    def load(self) -> Images:
        if self.root is None:
            raise DataError("dataset.root=FOLDER is needed: it holds train/CLASS/ and, for the test, test/CLASS/")
        if self.image_size is None:
            raise DataError("dataset.image_size=PIXELS is needed: images in folders are brought to one size")
        root = Path(self.root).expanduser()
        if not (root / "train").is_dir():
            raise DataError(f"there is no folder {shown(root / 'train')}; dataset.root must hold train/CLASS/")
        classes = sorted(folder.name for folder in (root / "train").iterdir() if folder.is_dir())
        parts = {
            name: Folder(root / name, classes, self.mode) for name in ("train", "val", "test") if (root / name).is_dir()
        }
        if not len(parts["train"]):
            raise DataError(f"no images in {shown(root / 'train')}; legal are {', '.join(IMG_EXTENSIONS)}")
        if "val" in parts and "test" not in parts:
            parts["test"] = parts.pop("val")
        return Images(**parts)

    def geometry(self, part: Part) -> tuple[list[Step], list[Step]]:
        assert self.image_size is not None, "load() refuses it"
        training = [v2.RandomResizedCrop(self.image_size, scale=(self.min_scale, 1.0))]
        if self.jitter:
            training.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        evaluation = [v2.Resize(round(self.image_size / self.crop_ratio)), v2.CenterCrop(self.image_size)]
        return [*training, v2.PILToTensor()], [*evaluation, v2.PILToTensor()]


class ImageNet(ImageFolder):
    """ImageNet's 1,000 classes (Russakovsky et al., 2015, arXiv:1409.0575), unpacked into train/ and val/ folders.

    Args:
        download: must be false, for its licence forbids it; obtain it from image-net.org.
        options: of :class:`ImageFolder`.
    """

    def __init__(self, *, download: bool = False, **options: Any) -> None:
        if download:
            raise DataError("ImageNet cannot be downloaded freely; unpack it yourself and pass dataset.root=FOLDER")
        super().__init__(**options)
