"""Sizes of AutoFormer's three spaces (arXiv:2107.00651, table 1), and of their forms for small images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_nas.spaces.sides import Size, pair
from lightning_nas.spaces.sizes import SMALL_IMAGES


@dataclass(frozen=True)
class Preset:
    """Sizes of a space, named as the arguments of its constructor."""

    embeds: tuple[int, ...]
    shared_embed: int
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    depths: tuple[int, ...]
    head_dim: int = 64
    patch: int = 16
    distance: int = 14
    scaled: bool = False


PRESETS = {
    "tiny": Preset((192, 216, 240), 256, (3, 4), (3.5, 4.0), (12, 13, 14)),
    "small": Preset((320, 384, 448), 448, (5, 6, 7), (3.0, 3.5, 4.0), (12, 13, 14)),
    "base": Preset((528, 576, 624), 640, (9, 10), (3.0, 3.5, 4.0), (14, 15, 16)),
}


def fitted(size: str, image_size: Size) -> Preset:
    """The sizes for images: the paper's, or for images of up to 64 pixels an eighth of the widths and ten layers less.

    The longer side of a small image is divided into 4 to 8 patches, as few as leave no pixel over.

    >>> fitted("small", 8)
    Preset(embeds=(40, 48, 56), shared_embed=56, heads=(5, 6, 7), ratios=(3.0, 3.5, 4.0), depths=(2, 3, 4), \
head_dim=8, patch=2, distance=7, scaled=True)
    >>> [fitted("small", pixels).patch for pixels in (9, 14, 28, 32, 224)]
    [2, 2, 7, 8, 16]
    """
    paper, longest = PRESETS[size], max(pair(image_size))
    if longest > SMALL_IMAGES:
        return paper
    return replace(
        paper,
        embeds=tuple(width // 8 for width in paper.embeds),
        shared_embed=paper.shared_embed // 8,
        depths=tuple(depth - 10 for depth in paper.depths),
        head_dim=8,
        patch=next((longest // rows for rows in range(4, 9) if longest % rows == 0), -(-longest // 8)),
        distance=7,
        scaled=True,
    )
