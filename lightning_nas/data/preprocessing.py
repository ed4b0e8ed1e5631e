"""Preprocessing of a picture for a trained network, as plain values that are saved with the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import Tensor
from torchvision.transforms import v2

from lightning_nas.data.image_files import read_image
from lightning_nas.data.targets import Scale
from lightning_nas.data.transforms import Finish
from lightning_nas.errors import DataError, shown
from lightning_nas.ranges import Targets


class Preprocessing(BaseModel):
    """The evaluation transform of a data set and the names of its classes.

    Attributes:
        format: of this description.
        kind: "images", "text", or "own" where samples come from code of a person's own, whose transform is not known.
        input_shape: (C, H, W) of one image, (T,) of a window of words.
        classes: names, in the order of the network's output; words of the vocabulary for text.
        outputs: what the network's outputs are: logits of "classes", "labels" or "words", standardised "numbers", or
            logits (N, classes, h, w) of "masks".
        target_mean: of each number over the training samples, in the targets' own unit; None for other outputs.
        target_std: standard deviation of each number; output * std + mean is in the targets' own unit.
        pixels: "bytes" are divided by 255; "floats" are files of which some have more than 8 bits, see
            :func:`~lightning_nas.data.image_files.read_image`; "numbers" are arrays of floats. None unless ``kind`` is
            "images".
        mode: Pillow's name of the channels and their order, "L" or "RGB"; None for other numbers of channels.
        shorter_side: pixels to which the shorter side is scaled before the centre is cut out; None scales the whole
            picture to the input's size.
        mean: of each channel, subtracted; of pixels from 0 to 1.
        std: of each channel, by which the difference is divided.
        split: how a text is split into words; None for images.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> grey = Preprocessing(kind="images", input_shape=[1, 2, 2], classes=["dark", "light"], pixels="bytes",
        ...                      mode="L", mean=[0.5], std=[0.25])
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("RGB", (6, 6), (255, 255, 255)).save(file.name)
        ...     grey.images([file.name]).flatten().tolist()
        [2.0, 2.0, 2.0, 2.0]
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    format: Literal[1] = 1
    kind: Literal["images", "text", "own"]
    input_shape: list[PositiveInt]
    classes: list[str]
    pixels: Literal["bytes", "floats", "numbers"] | None = None
    mode: Literal["L", "RGB"] | None = None
    shorter_side: PositiveInt | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    split: Literal["words", "spaces"] | None = None
    outputs: Targets = "classes"
    target_mean: list[float] | None = None
    target_std: list[float] | None = None

    @classmethod
    def of(cls, content: Any, *, where: str) -> Preprocessing:
        """Read the content of ``preprocessing.json``.

        Raises:
            DataError: it is none; ``where`` opens the message.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as reason:
            first = reason.errors(include_url=False, include_context=False)[0]
            place = shown(".".join(str(part) for part in first["loc"]))[1:-1]
            raise DataError(f"{where}: preprocessing: {place}: {ascii(first['msg'])[1:-1]}") from None

    def numbers(self, outputs: Tensor) -> Tensor:
        """Outputs (N, T) of the network in the targets' own unit, float64.

        >>> about = Preprocessing(kind="own", input_shape=[1], classes=["cm"], outputs="numbers", target_mean=[170.0],
        ...                       target_std=[10.0])
        >>> about.numbers(torch.tensor([[0.5]])).tolist()
        [[175.0]]
        """
        return self.scale.restored(outputs)

    @property
    def scale(self) -> Scale:
        """Mean and standard deviation of the targets; only where the outputs are numbers."""
        assert self.target_mean is not None
        assert self.target_std is not None
        return Scale(*(torch.tensor(values, dtype=torch.float64) for values in (self.target_mean, self.target_std)))

    def images(self, files: Sequence[str | Path]) -> Tensor:
        """The network's input (N, C, H, W), float32, of image files.

        Raises:
            DataError: a file that cannot be read as a picture, a network that reads no pictures, or one whose transform
                is not known.
        """
        return torch.stack([self._image(Path(file)) for file in files])

    def _image(self, file: Path) -> Tensor:
        if self.kind == "text":
            raise DataError("the network reads text, not pictures; ln.load(FOLDER) gives the network itself")
        if self.mode is None or self.pixels in (None, "numbers") or self.mean is None or self.std is None:
            raise DataError(
                "how a picture becomes an input is not known: the network was trained on arrays or loaders of your "
                "own; ln.load(FOLDER) gives the network itself"
            )
        try:
            picture = read_image(file, self.mode, floating=self.pixels == "floats")
        except OSError as reason:
            said = reason.strerror or str(reason)
            raise DataError(f"cannot read {shown(file)}: {shown(said, 160)}") from None
        except Exception as reason:  # noqa: BLE001 - Pillow passes on any error of its parsers at a damaged file
            raise DataError(f"cannot decode {shown(file)}: {shown(str(reason), 160)}") from None
        height, width = self.input_shape[1:]
        if self.shorter_side is not None:
            picture = v2.CenterCrop([height, width])(v2.Resize(self.shorter_side)(picture))
        else:
            picture = v2.Resize([height, width])(picture)
        normalised: Tensor = Finish(self.mean, self.std)(v2.PILToTensor()(picture))
        return normalised
