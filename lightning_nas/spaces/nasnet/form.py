"""Sizes of NASNet networks (arXiv:1707.07012): width, depth and stem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.cells import auxiliary_head, pooled_classifier
from lightning_nas.spaces.base import Keys, Operation
from lightning_nas.spaces.cells.place import Stem, Widths
from lightning_nas.spaces.cells.stacked import StackedCells
from lightning_nas.spaces.nasnet.networks import Made, NASNetCell, NASNetGenotype, NASNetPlace
from lightning_nas.spaces.sizes import classes_of

SMALLEST = {"cifar": 8, "imagenet": 64}  # of the images: halved so often they have more than one pixel
EPS = {"cifar": 1e-5, "imagenet": 1e-3}  # of the batch norms


@dataclass(frozen=True)
class NASNetForm:
    """Sizes of a network, without its cells.

    Args:
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        cells: cells of each of the three stacks, without reduction cells if ``apart``.
        filters: channels of the first stack's cells.
        stem: "cifar", a 3x3 convolution; or "imagenet", one of stride 2 and two reduction cells.
        stem_multiplier: channels of the convolution over ``filters`` ("cifar") or over 32 ("imagenet").
        dropout: probability before the classifier.
        pass_reduction: the cell after a reduction cell has as its state 0 that of the reduction cell.
        apart: a reduction cell stands before the second and the third stack; otherwise the first cell of these halves.

    Raises:
        InputError: images that are too small, or sizes out of range.
    """

    image_size: int
    in_channels: int
    num_classes: int
    cells: int
    filters: int
    stem: Stem
    stem_multiplier: int
    dropout: float
    pass_reduction: bool = False
    apart: bool = True

    def __post_init__(self) -> None:
        if self.image_size < SMALLEST[self.stem]:
            raise InputError(
                f"NASNet networks with stem={self.stem} need images of at least {SMALLEST[self.stem]} pixels, "
                f"got {self.image_size}"
            )
        least = {"cifar": 2, "imagenet": 8}[self.stem]
        if self.filters < least:
            raise InputError(f"NASNet networks with stem={self.stem} need at least {least} filters, got {self.filters}")

    # -- cells --------------------------------------------------------------------------------------------------

    def _kinds(self) -> Iterator[tuple[str, int]]:
        """Kind and channels of each cell."""
        if self.stem == "imagenet":
            yield from (("reduce", self.filters // 4), ("reduce", self.filters // 2))
        for stack in range(3):
            channels = self.filters * 2**stack
            if stack:
                yield "reduce", channels
            yield from [("normal", channels)] * (self.cells if self.apart or not stack else self.cells - 1)

    @property
    def reductions(self) -> tuple[int, int]:
        """The places of the reduction cells after the stem.

        >>> NASNetForm(32, 3, 10, 6, 32, "cifar", 3, 0.0).reductions
        (6, 13)
        >>> NASNetForm(224, 3, 1000, 4, 44, "imagenet", 1, 0.5).reductions
        (6, 11)
        """
        found = [i for i, (kind, _) in enumerate(self._kinds()) if kind == "reduce"]
        return found[-2], found[-1]

    def places(self, widths: Widths) -> tuple[NASNetPlace, ...]:
        """Compute where each cell stands.

        Args:
            widths: width of the output by kind of cell, in the cell's channels.
        """
        before, last = 2 * ((self._stem_channels(), self._stem_size()),)
        made: list[NASNetPlace] = []
        for i, (kind, channels) in enumerate(self._kinds()):
            place = NASNetPlace(kind, channels, (before, last), halves=kind == "reduce", raw=not made)
            made.append(place)
            before = before if i in self._passed() else last
            last = channels * widths[kind], place.size
        return tuple(made)

    def _passed(self) -> tuple[int, ...]:
        return self.reductions if self.pass_reduction else ()

    # -- stem and head ------------------------------------------------------------------------------------------

    def _stem_channels(self) -> int:
        return self.stem_multiplier * (self.filters if self.stem == "cifar" else 32)

    def _stem_size(self) -> int:
        return self.image_size if self.stem == "cifar" else (self.image_size - 3) // 2 + 1

    def make_stem(self) -> nn.Module:
        """A fresh stem, without its cells."""
        channels = self._stem_channels()
        if self.stem == "cifar":
            return conv_bn(self.in_channels, channels, 3, relu=False)
        conv = nn.Conv2d(self.in_channels, channels, 3, 2, bias=False)  # no padding
        return nn.Sequential(conv, nn.BatchNorm2d(channels))

    def make_head(self, channels: int, num_classes: int | None = None) -> nn.Module:
        """A fresh classifier."""
        return pooled_classifier(
            channels, classes_of(num_classes, self.num_classes), dropout=self.dropout, relu=True, bias=True
        )

    def make_auxiliary(self, channels: int, size: int, num_classes: int) -> nn.Module:
        """A fresh auxiliary classifier for the output of a cell.

        Raises:
            InputError: the output is too small for its pool.
        """
        if size < 5:
            raise InputError(
                f"the auxiliary classifier of NASNet networks with stem={self.stem} needs images of at least "
                f"{'9' if self.stem == 'cifar' else '67'} pixels, got {self.image_size}"
            )
        return auxiliary_head(channels, num_classes, stride=3, last_norm=True, kernel=(size - 5) // 3 + 1)

    def network(
        self, genotypes: Mapping[str, NASNetGenotype], num_classes: int | None, auxiliary: bool
    ) -> StackedCells:
        """The network with fresh weights; the auxiliary classifier sees the cell before the last reduction cell."""
        widths, classes = _widths(genotypes), classes_of(num_classes, self.num_classes)
        places, seen = self.places(widths), self.reductions[1] - 1
        shares = [(i + 1) / len(places) for i in range(len(places))]
        cells = [NASNetCell(place, genotypes[place.kind], share) for place, share in zip(places, shares, strict=True)]
        at, last = places[seen], places[-1]
        extra = self.make_auxiliary(at.channels * widths[at.kind], at.size, classes) if auxiliary else None
        head = self.make_head(last.channels * widths[last.kind], classes)
        network = StackedCells(self.make_stem(), cells, {}, head, extra, seen, self._passed())
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.eps = EPS[self.stem]
        return network

    # -- cost ---------------------------------------------------------------------------------------------------

    def fixed(self, widths: Widths) -> list[Made]:
        """Stem, calibrations of inputs, classifier."""
        size, places = self.image_size, self.places(widths)
        stem = Operation(self.make_stem, (self.in_channels, size, size))
        last = places[-1]
        channels = last.channels * widths[last.kind]
        head = Operation(partial(self.make_head, channels), (channels, last.size, last.size))
        return [
            (f"stem {self.stem} {self.in_channels}x{size}x{size} -> {self._stem_channels()}", stem),
            *(made for place in places for made in place.calibrations() if made),
            (f"head {channels}x{last.size}x{last.size} -> {self.num_classes}", head),
        ]

    def keys(self, genotypes: Mapping[str, NASNetGenotype]) -> Keys:
        """Cost keys of all parts of a network with these cells."""
        keys, widths = [], _widths(genotypes)
        for place in self.places(widths):
            genotype = genotypes[place.kind]
            made = [
                place.made(option, state, genotype.width(state)) for node in genotype.nodes for option, state in node
            ]
            keys += [one[0] for one in (*made, *map(place.output, genotype.concat)) if one]
        return (*(key for key, _ in self.fixed(widths)), *keys)

    def searched(self, options: Sequence[str], *, wide: bool, inputs: bool) -> dict[str, Operation]:
        """Every operation on every kind of state, and the modules between inputs and the output.

        Args:
            options: the operations.
            wide: there are nodes that concatenate.
            inputs: an input may be part of the output.
        """
        made: dict[str, Operation] = {}
        for place in self.places({"normal": 1, "reduce": 1}):
            states = [(0, 1), (1, 1), (2, 1), (2, 2)][: 4 if wide else 3]
            found = [place.made(option, *state) for option in options for state in states]
            made |= dict(one for one in found if one)
            made |= dict(one for state in (0, 1) if inputs and (one := place.output(state)))
        return made


def _widths(genotypes: Mapping[str, NASNetGenotype]) -> dict[str, int]:
    return {kind: genotype.widths for kind, genotype in genotypes.items()}
