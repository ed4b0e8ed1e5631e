"""A picture of test images, their masks and what a network says of them."""

from __future__ import annotations

import colorsys
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from lightning_nas.data.module import ImageData
from lightning_nas.files import replace_file
from lightning_nas.ops.outputs import output_of
from lightning_nas.tasks.segmentation import resized

FILE = "predictions.png"
"""Name of the picture in the folder of a run."""

_MOST = 6  # images
_HEIGHT = 96  # pixels, at least, of an image in the picture
_GAP = 4  # white pixels between two


@torch.no_grad()
def save_predictions(file: Path, network: nn.Module, data: ImageData) -> None:
    """Write a picture of up to six test images: the images, below them their masks, and below these the answers.

    Args:
        file: PNG file to be written.
        network: on the device of its parameters; gives logits (N, K, h, w).
        data: with masks, set up.
    """
    images, masks = data.looked_at("test", _MOST)
    training = network.training
    network.eval()
    logits = output_of(network, images.to(next(network.parameters()).device))
    network.train(training)
    answers = resized(logits.cpu(), masks.shape[-2:]).argmax(1)
    colours = palette(data.num_classes, data.majority)
    rows = [torch.stack([_visible(image) for image in images]), colours[masks], colours[answers]]
    enlarged = max(1, -(-_HEIGHT // masks.shape[1]))
    lines = [_beside([_large(tile, enlarged) for tile in row], 1) for row in rows]
    buffer = io.BytesIO()
    Image.fromarray(_beside(lines, 0).numpy()).save(buffer, "PNG")
    replace_file(file, buffer.getvalue())


def palette(num_classes: int, majority: int) -> Tensor:
    """A colour for each value of a mask, (256, 3), uint8: dark grey for the most frequent class, white for 255.

    >>> palette(3, 0)[[0, 255]].tolist()
    [[48, 48, 48], [255, 255, 255]]
    """
    colours = torch.full((256, 3), 255, dtype=torch.uint8)
    for number in range(min(num_classes, 255)):
        red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.45 + 0.4 * (number % 2), 0.95)
        colours[number] = torch.tensor([round(255 * value) for value in (red, green, blue)], dtype=torch.uint8)
    colours[majority] = 48
    return colours


def _visible(image: Tensor) -> Tensor:
    """An image (C, H, W) of any scale as bytes (H, W, 3), from its smallest to its largest value."""
    shown = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    low, high = shown.min(), shown.max()
    return ((shown - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8).permute(1, 2, 0)


def _large(tile: Tensor, factor: int) -> Tensor:
    return tile.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _beside(tiles: list[Tensor], dim: int) -> Tensor:
    """Tiles (H, W, 3) one after another, with white between them."""
    shape = list(tiles[0].shape)
    shape[dim] = _GAP
    gap = torch.full(shape, 255, dtype=torch.uint8)
    return torch.cat([part for tile in tiles for part in (tile, gap)][:-1], dim).contiguous()
