"""Cutout, padding and normalisation of images, as transforms of torchvision (v2)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask

from lightning_nas.data.samples import pieces
from lightning_nas.ranges import UNLABELLED


class Cutout(v2.Transform):  # type: ignore[misc]
    """Paint over a square of ``size`` pixels around a random centre (DeVries & Taylor, 2017, arXiv:1708.04552).

    The centre is uniform over the image; the square is cut off at the border. For images (..., C, H, W). Draws from
    torch's global generator, as torchvision's transforms do.

    Args:
        size: side of the square.
        fill: one value per channel, of pixels from 0 to 1, rounded where they are bytes. With the mean of the data
            the square is 0 after normalisation, as in the paper.

    Example:
        >>> int((Cutout(2)(torch.ones(1, 8, 8)) == 0).sum()) in (1, 2, 4)
        True
    """

    def __init__(self, size: int, fill: Sequence[float] = (0.0,)) -> None:
        super().__init__()
        self.size, self.fill = size, torch.tensor(fill)[:, None, None]
        self.grey = self.fill.mul(255).round().to(torch.uint8)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        corner = [int(torch.randint(side, ())) - self.size // 2 for side in (height, width)]
        rows, columns = (slice(max(0, start), max(0, start + self.size)) for start in corner)
        return {"rows": rows, "columns": columns}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        image = inpt.clone()
        image[..., params["rows"], params["columns"]] = self.fill if image.is_floating_point() else self.grey
        return image


class PadTo(v2.Transform):  # type: ignore[misc]
    """Pad an image, and its mask, at the bottom and on the right; added pixels are black and have no class.

    Args:
        size: height and width; images that have them are left as they are.

    Example:
        >>> PadTo((1, 3))(torch.ones(1, 1, 2), Mask(torch.ones(1, 2, dtype=torch.uint8)))[1].tolist()
        [[1, 1, 255]]
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        height, width = F.get_size(inpt)
        lacking = [0, 0, self.size[1] - width, self.size[0] - height]
        return F.pad(inpt, lacking, fill=UNLABELLED if isinstance(inpt, Mask) else 0) if any(lacking) else inpt


class Finish:
    """Normalise images: divide bytes by 255, then compute ``(x - mean) / std`` by channel.

    Args:
        mean: one value per channel, of pixels from 0 to 1.
        std: one value per channel, of pixels from 0 to 1.

    Example:
        >>> Finish([0.5], [0.25])(torch.tensor([[[0, 255]]], dtype=torch.uint8)).tolist()
        [[[-2.0, 2.0]]]
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.steps = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images, float32, of images (..., C, H, W), uint8 or floating point."""
        finished: Tensor = self.steps(images)
        return finished


def moments(parts: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of images (n, C, H, W), one part after another.

    Bytes are divided by 255. The standard deviation of a constant channel is given as 1.

    >>> moments([torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)])
    ([0.5], [0.5])
    """
    sums, count = torch.zeros((), dtype=torch.float64), 0
    for images in parts:
        for piece in pieces(images):
            sums = sums + (_sums(piece) if piece.is_floating_point() else _sums_of_bytes(piece))
            count += piece.numel() // piece.shape[1]
    mean, square = sums / count
    std = (square - mean.square()).clamp_min(0).sqrt()
    # below that share of the mean a deviation is rounding, whatever the unit
    return mean.tolist(), torch.where(std > 1e-6 * mean.abs(), std, 1.0).tolist()


def _sums(images: Tensor) -> Tensor:
    """Sums (2, C) of the values and of their squares by channel."""
    values = images.double()
    return torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])


def _sums_of_bytes(images: Tensor) -> Tensor:
    """The same of bytes divided by 255, by how often each comes, which takes a third of the time."""
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    values = torch.arange(256, dtype=torch.float64) / 255
    return torch.stack([values, values.square()]) @ counts.double().T
