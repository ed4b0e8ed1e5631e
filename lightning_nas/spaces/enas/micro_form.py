"""Sizes of the networks of ENAS' micro space (arXiv:1802.03268), and the places of their cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn

from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.cells import FactorizedReduction, pooled_classifier
from lightning_nas.spaces.base import Operation
from lightning_nas.spaces.cells.place import CellPlace
from lightning_nas.spaces.sizes import classes_of

SMALLEST = 8  # of the images: halved twice they have more than one pixel for a batch norm of one image


@dataclass(frozen=True)
class MicroForm:
    """Sizes of a network, without its cells.

    Args:
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: number of cells, without the two reduction cells.
        nodes: nodes of a cell.
        channels: channels of the first cells.
        dropout: probability before the classifier.

    Raises:
        InputError: images below 8 pixels, no layer, no node, or odd channels.
    """

    image_size: int
    in_channels: int
    num_classes: int
    layers: int
    nodes: int
    channels: int
    dropout: float

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST:
            raise InputError(f"ENAS' micro networks need images of at least {SMALLEST} pixels, got {self.image_size}")
        if self.channels % 2:
            raise InputError(f"ENAS' micro networks need an even number of channels, got channels={self.channels}")

    @property
    def reductions(self) -> tuple[int, int]:
        """The places of the reduction cells.

        >>> MicroForm(32, 3, 10, 6, 5, 20, 0.1).reductions, MicroForm(32, 3, 10, 15, 5, 36, 0.2).reductions
        ((2, 5), (5, 11))
        """
        return self.layers // 3, 2 * (self.layers // 3) + 1

    def _kinds(self) -> Iterator[tuple[str, int]]:
        """Kind and channels of each cell."""
        channels = self.channels
        for i in range(self.layers + 2):
            kind = "reduce" if i in self.reductions else "normal"
            channels *= 2 if kind == "reduce" else 1
            yield kind, channels

    def searched(self) -> tuple[CellPlace, ...]:
        """Places of the cells of the searched network; a halving precedes each reduction cell."""
        before = last = 3 * self.channels, self.image_size
        made = []
        for kind, channels in self._kinds():
            if kind == "reduce":
                before, last = last, (channels, -(-last[1] // 2))
            place = CellPlace(kind, channels, (before, last), halves=False)
            made.append(place)
            before, last = last, (channels, place.size)
        return tuple(made)

    def retrained(self, widths: dict[str, int]) -> tuple[CellPlace, ...]:
        """Places of the cells of the retrained network.

        Args:
            widths: number of loose ends by kind of cell.
        """
        before = last = 3 * self.channels, self.image_size
        made = []
        for kind, channels in self._kinds():
            place = CellPlace(kind, channels, (before, last), halves=kind == "reduce")
            made.append(place)
            before, last = last, (channels * widths[kind], place.size)
        return tuple(made)

    def halvings(self) -> dict[int, tuple[str, Operation]]:
        """Cost key and operation of the halving before each reduction cell of the searched network."""
        places, made = self.searched(), {}
        for i in self.reductions:
            channels, size = places[i].inputs[0]
            build = partial(FactorizedReduction, channels, places[i].channels, relu=False)
            made[i] = (
                f"halve {channels}x{size}x{size} -> {places[i].channels}",
                Operation(build, (channels, size, size)),
            )
        return made

    def make_stem(self) -> nn.Module:
        """A fresh stem."""
        return conv_bn(self.in_channels, 3 * self.channels, 3, relu=False)

    def stem(self) -> tuple[str, Operation]:
        """Cost key and operation of the stem."""
        shape = (self.in_channels, self.image_size, self.image_size)
        return f"stem {'x'.join(map(str, shape))} -> {3 * self.channels}", Operation(self.make_stem, shape)

    def make_head(self, channels: int, num_classes: int | None = None) -> nn.Module:
        """A fresh classifier."""
        return pooled_classifier(channels, classes_of(num_classes, self.num_classes), dropout=self.dropout, relu=True)

    def head(self, channels: int, size: int) -> tuple[str, Operation]:
        """Cost key and operation of the classifier."""
        key = f"head {channels}x{size}x{size} -> {self.num_classes}"
        return key, Operation(partial(self.make_head, channels), (channels, size, size))
