"""Image files: how the pixels of every Pillow mode arrive, and a check of all files before anything is trained."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from PIL import Image
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track
from torch import Tensor

from lightning_nas.errors import DataError, NasError, shown
from lightning_nas.files import cache_folder, read_json, write_json

Unit = Literal["bytes", "16 bits", "numbers"]
"""Scale of the pixels of a file: bytes / 255, 16 bits / 65,535, or numbers as they are."""

_BYTES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_WHOLE = 4 * 2**30  # bytes of all files together up to which every file is decoded and digested as a whole
_HEAD = 4096  # bytes of each file that are digested above that
_FORM = 2  # of the cached findings
_BLOCK = 10_000
_ORIENTATION = 274  # EXIF
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R 601), as in Pillow


def unit_of(image: Image.Image) -> Unit:
    """The scale of the pixels of an opened image.

    Raises:
        ValueError: a mode whose values are no grey or colour, such as LAB; colours of 16 bits in a file that is no PNG.
    """
    if image.mode in _BYTES:
        if not _is_deep(image):
            return "bytes"
        if image.format == "PNG":
            return "16 bits"
        raise ValueError("colours of 16 bits are read from PNG files alone; save it as PNG, or with 8 bits")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "16 bits"
    if image.mode in ("I", "F"):
        return "numbers"
    raise ValueError(f"the mode {image.mode} is not supported; save it as RGB or as grey of 8, 16 or 32 bits")


def read_image(file: Path | io.BytesIO, mode: Literal["L", "RGB"], *, floating: bool = False) -> Image.Image | Tensor:
    """The picture in a file, in colour ("RGB") or grey ("L").

    Bytes of any mode (palettes, CMYK, ...) are converted as Pillow does; transparent parts show white. Values of 16
    bits are divided by 65,535; integers and floats of 32 bits are left as they are.

    Args:
        file: path or content.
        mode: of the result.
        floating: give bytes as a tensor, divided by 255, too.

    Returns:
        An image of bytes, or a tensor (C, H, W), float32.

    Raises:
        Exception: any error of Pillow's, if the file cannot be decoded or has a mode that is not supported.

    Example:
        >>> import io
        >>> Image.fromarray(np.array([[0, 65535]], np.uint16)).save(file := io.BytesIO(), "PNG")
        >>> read_image(file, "L").flatten().tolist()
        [0.0, 1.0]
    """
    with Image.open(file) as image:
        unit = unit_of(image)
        if unit == "bytes":
            picture = _opaque(image).convert(mode)
            if not floating:
                return picture
            values = np.asarray(picture, np.float32) / 255
            return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1).contiguous()
        if image.mode in _BYTES:
            return _deep_colours(file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes(), mode)
        grey = torch.from_numpy(np.asarray(image).astype(np.float32))
    if not grey.isfinite().all():
        raise ValueError("it has a pixel that is NaN or infinite")
    grey = grey / 65535 if unit == "16 bits" else grey
    return grey.expand(3 if mode == "RGB" else 1, -1, -1).contiguous()


def _is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow opens as bytes has 16 bits in its file, of which Pillow would drop 8."""
    for tile in getattr(image, "tile", ()):
        raw = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if any(";16" in word for word in raw if isinstance(word, str)):
            return True
        if tile.codec_name.startswith("ppm") and any(isinstance(most, int) and most > 255 for most in raw):
            return True
    return False


def _deep_colours(content: bytes, mode: Literal["L", "RGB"]) -> Tensor:
    """The colours of a PNG file of 16 bits, over white where it is transparent; weights of grey are Pillow's."""
    from torchvision.io import ImageReadMode, decode_png  # read by few files, and to be replaced by torchcodec one day

    values: Tensor = decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    values = values.to(torch.int32) / 65535
    if len(values) in (2, 4):
        values, alpha = values[:-1], values[-1:]
        values = values * alpha + (1 - alpha)
    if mode == "RGB":
        return values.expand(3, -1, -1).contiguous()
    return values if len(values) == 1 else (values * torch.tensor(_GREY)[:, None, None]).sum(0, keepdim=True)


def _opaque(image: Image.Image) -> Image.Image:
    """The image laid over white where it is transparent."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return image
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


@dataclass(frozen=True)
class Findings:
    """Findings about all files of a folder.

    Attributes:
        digest: of the names and contents of all files; the time of their last change does not count.
        decoded: whether all files were decoded; else only their headers were read.
        unreadable: why files cannot be used, by path relative to the folder.
        units: a file of each unit that occurs.
        doubts: numbers of files with several pages or a rotation by EXIF.
    """

    digest: str
    decoded: bool
    unreadable: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, int] = field(default_factory=dict)


def check_files(root: Path, files: Sequence[Path], *, whole: bool = False) -> Findings:
    """Decode all image files once; the findings are cached until a file's size or time of change is another.

    Files of more than 4 GiB together are not decoded, only their headers are read, unless ``whole``.

    Args:
        root: the folder.
        files: the files below it.
        whole: decode files of any size.

    Raises:
        DataError: a file vanished.
    """
    try:
        stats = [path.stat() for path in files]
    except OSError as reason:
        raise DataError(f"cannot read {shown(Path(str(reason.filename)))}: {reason.strerror}") from None
    decode = whole or sum(stat.st_size for stat in stats) <= _WHOLE
    names = [path.relative_to(root).as_posix() for path in files]
    state = hashlib.sha256(repr((_FORM, PIL.__version__, decode, str(root.resolve()))).encode())
    for name, stat in zip(names, stats, strict=True):
        state.update(repr((name, stat.st_size, stat.st_mtime_ns)).encode())
    cached = cache_folder() / "images" / f"{state.hexdigest()[:32]}.json"
    with suppress(NasError, ValueError):
        if cached.exists():
            return TypeAdapter(Findings).validate_python(read_json(cached))
    findings = _findings(files, names, decode=decode)
    with suppress(NasError):  # without a cache the next run looks again
        write_json(cached, asdict(findings))
    return findings


@dataclass(frozen=True)
class _Look:
    digest: bytes
    unit: Unit | None = None
    reason: str = ""
    doubts: tuple[str, ...] = ()


def _findings(files: Sequence[Path], names: Sequence[str], *, decode: bool) -> Findings:
    found, sha = Findings("", decode), hashlib.sha256()
    for name, look in zip(names, _bar(_looks(files, decode), len(files)), strict=True):
        sha.update(name.encode("utf-8", "surrogateescape") + b"\0" + look.digest)
        if look.unit is None:
            found.unreadable[name] = look.reason
        else:
            found.units.setdefault(look.unit, name)
        for doubt in look.doubts:
            found.doubts[doubt] = found.doubts.get(doubt, 0) + 1
    return Findings(sha.hexdigest()[:32], decode, found.unreadable, found.units, found.doubts)


def _looks(files: Sequence[Path], decode: bool) -> Iterator[_Look]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # Pillow decodes outside of Python's lock
        for start in range(0, len(files), _BLOCK):
            yield from threads.map(lambda path: _look(path, decode), files[start : start + _BLOCK])


def _bar(looks: Iterator[_Look], total: int) -> Iterable[_Look]:
    if total < 1000 or not sys.stderr.isatty():
        return looks
    return track(looks, "checking images", total=total, console=Console(stderr=True), transient=True)


def _look(path: Path, decode: bool) -> _Look:
    digest = b""
    try:
        with path.open("rb") as file:
            content = file.read() if decode else file.read(_HEAD)
            digest = hashlib.sha256(content + str(path.stat().st_size).encode()).digest()
            with warnings.catch_warnings(), Image.open(io.BytesIO(content) if decode else file) as image:
                warnings.simplefilter("ignore")
                unit, doubts = unit_of(image), tuple(_doubts(image))
                if decode:
                    image.load()
    except Exception as reason:  # noqa: BLE001 - Pillow passes on any error of its parsers at a damaged file
        return _Look(digest, reason=_words(reason))
    return _Look(digest, unit, doubts=doubts)


def _words(reason: Exception) -> str:
    """Why a file cannot be decoded, without the address of its buffer."""
    if isinstance(reason, PIL.UnidentifiedImageError):
        return "it is no image of a known format"
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def _doubts(image: Image.Image) -> Iterator[str]:
    if getattr(image, "n_frames", 1) > 1:
        yield "pages"
    if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
        yield "rotated"


def mixed_units(findings: Findings) -> str:
    """Describe files whose values have no common scale; empty if there are none."""
    numbers = findings.units.get("numbers")
    others: dict[str, Any] = {unit: name for unit, name in findings.units.items() if unit != "numbers"}
    if numbers is None or not others:
        return ""
    unit, other = next(iter(others.items()))
    return f"{shown(Path(numbers))} holds numbers of 32 bits and {shown(Path(other))} {unit}"
