"""Files of images and masks: which belong together, what a mask file holds, and a check of all before a training."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from lightning_nas.errors import DataError, NasError, shown
from lightning_nas.files import cache_folder, read_json, write_json
from lightning_nas.ranges import UNLABELLED

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_PARTS = ("train", "val", "test")
_EXACT = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")  # endings of files that keep every value
_FORM = 1  # of the cached findings


def read_pairs(root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """The images of each part with their masks, in the order of their names.

    Legal are ``root/images`` with ``root/masks``, or these two in ``root/train`` and, where there are such parts,
    ``root/val`` and ``root/test``. A mask has the path of its image below its folder, whatever the ending.

    Raises:
        DataError: no such folders, no images, an image without a mask or with two, or a mask of a form that changes
            values.
    """
    folders = {part: root / part for part in _PARTS if (root / part).is_dir()}
    if "train" not in folders:
        folders = {"train": root}
    return {part: _pairs(folder) for part, folder in folders.items()}


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise DataError(
                f"there is no folder {shown(folder / name)}; legal is FOLDER/images/ with FOLDER/masks/, or these two "
                "in FOLDER/train/, FOLDER/val/ and FOLDER/test/"
            )
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    if not images:
        raise DataError(f"no images in {shown(folder / 'images')}; legal are {', '.join(IMG_EXTENSIONS)}")
    for stem, image in images.items():
        if stem not in masks:
            raise DataError(f"{shown(image)} has no mask; legal is {shown(folder / 'masks' / f'{stem}.png')}")
        if masks[stem].suffix.lower() not in _EXACT:
            raise DataError(
                f"{shown(masks[stem])} is of a form that changes values; legal for masks: {', '.join(_EXACT)}"
            )
    return [(image, masks[stem]) for stem, image in images.items()]


def _by_stem(folder: Path) -> dict[str, Path]:
    found = dict[str, Path]()
    for file in sorted(folder.rglob("*")):
        below = file.relative_to(folder)
        if file.suffix.lower() in IMG_EXTENSIONS and not any(part.startswith(".") for part in below.parts):
            stem = below.with_suffix("").as_posix()
            if stem in found:
                raise DataError(f"{shown(found[stem])} and {shown(file)} have one name; keep one of them")
            found[stem] = file
    return found


def read_mask(file: Path | io.BytesIO, colours: Mapping[Colour, int] | None = None) -> Tensor:
    """The mask in a file: (H, W), uint8.

    Values of grey files and palette numbers of palette files are classes, whatever the colours of the palette; with
    ``colours`` the colour of each pixel says its class.

    Args:
        file: path or content.
        colours: class by colour; None for files that hold the classes themselves.

    Raises:
        ValueError: a colour that is not in the table, a file in colour without a table, or a value above 255.
        Exception: any error of Pillow's, if the file cannot be decoded.

    Example:
        >>> Image.fromarray(np.array([[[0, 0, 0], [0, 0, 142]]], np.uint8)).save(file := io.BytesIO(), "PNG")
        >>> read_mask(file, {(0, 0, 0): 255, (0, 0, 142): 13}).tolist()
        [[255, 13]]
    """
    with Image.open(file) as image:
        if colours is not None:
            return _of_colours(np.asarray(image.convert("RGB")), colours)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise ValueError(
                f"it is in colour (mode {image.mode}); dataset.colours=[[R,G,B],...] says the colour of each class"
            )
        values = np.asarray(image).astype(np.int64)
    if int(values.max()) > UNLABELLED:
        raise ValueError(f"it has the value {int(values.max())}; legal: 0 to 254, and 255 for pixels without a class")
    return torch.from_numpy(values.astype(np.uint8))


def _of_colours(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colours: Mapping[Colour, int]) -> Tensor:
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known = {(red << 16) + (green << 8) + blue: value for (red, green, blue), value in colours.items()}
    mask = np.full(codes.shape, UNLABELLED, np.uint8)
    for code in np.unique(codes).tolist():
        if code not in known:
            raise ValueError(
                f"it has the colour {[code >> 16, code >> 8 & 255, code & 255]}, which is not in dataset.colours; add "
                "it, or name it in dataset.unlabelled"
            )
        mask[codes == code] = known[code]
    return torch.from_numpy(mask)


@dataclass(frozen=True)
class MaskLook:
    """Findings about a mask file and its image.

    Attributes:
        digest: of the content of the mask file, hexadecimal.
        size: height and width.
        counts: pixels of each value that occurs.
        reason: why it cannot be used; empty if it can.
    """

    digest: str
    size: tuple[int, int] = (0, 0)
    counts: dict[int, int] = field(default_factory=dict)
    reason: str = ""

    def row(self) -> Tensor:
        """Pixels of each value, (256,), int64."""
        made = torch.zeros(256, dtype=torch.int64)
        for value, count in self.counts.items():
            made[value] = count
        return made


def check_masks(pairs: Sequence[tuple[Path, Path]], colours: Mapping[Colour, int] | None) -> list[MaskLook]:
    """Decode all mask files once; the findings are cached until a file changes.

    Args:
        pairs: images and their masks.
        colours: as in :func:`read_mask`.

    Raises:
        DataError: a mask that cannot be decoded or has another size than its image; names the file.
    """
    state = hashlib.sha256(repr((_FORM, PIL.__version__, colours)).encode())
    for image, mask in pairs:
        stats = [path.stat() for path in (image, mask)]
        state.update(repr([str(mask.resolve()), *((stat.st_size, stat.st_mtime_ns) for stat in stats)]).encode())
    cached, looks = cache_folder() / "masks" / f"{state.hexdigest()[:32]}.json", list[MaskLook]()
    with suppress(NasError, ValueError):
        if cached.exists():
            looks = TypeAdapter(list[MaskLook]).validate_python(read_json(cached))
    if len(looks) != len(pairs):
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # Pillow decodes outside of Python's lock
            looks = list(threads.map(lambda pair: _look(pair[0], pair[1], colours), pairs))
        with suppress(NasError):  # without a cache the next run looks again
            write_json(cached, [asdict(look) for look in looks])
    for (_, mask), look in zip(pairs, looks, strict=True):
        if look.reason:
            raise DataError(f"{shown(mask)}: {look.reason}")
    return looks


def _look(image: Path, mask: Path, colours: Mapping[Colour, int] | None) -> MaskLook:
    digest = ""
    try:
        content = mask.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        values = read_mask(io.BytesIO(content), colours)
        with Image.open(image) as opened:
            width, height = opened.size
    except Exception as reason:  # noqa: BLE001 - Pillow passes on any error of its parsers at a damaged file
        damaged = isinstance(reason, PIL.UnidentifiedImageError)
        said = "it is no image of a known format" if damaged else str(getattr(reason, "strerror", None) or reason)
        return MaskLook(digest, reason=said)
    size = (values.shape[0], values.shape[1])
    if size != (height, width):
        return MaskLook(
            digest, size, reason=f"it has {size[0]}x{size[1]} pixels, its image {height}x{width}; legal: the same"
        )
    counts = torch.bincount(values.flatten(), minlength=256)
    return MaskLook(digest, size, {value: int(counts[value]) for value in counts.nonzero().flatten().tolist()})
