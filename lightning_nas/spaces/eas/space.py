"""The search space of EAS (Cai et al., AAAI 2018, arXiv:1707.04873): plain networks grown from a small one.

Blocks of convolutions with a pool after each, then fully connected layers. Each layer has a width from a list; a step
of the search makes a layer wider (Net2Wider: the next width of its list) or puts another after it (Net2Deeper), and
the grown network inherits the weights, so that it begins as the function it was grown from.

Differs from the paper: plain networks only, not the DenseNets that it grows as well. The start network, from the
paper's text, has pools that take the maximum. The noise of new layers and copies is off unless asked for, as both
configurations do with the authors' amount (``noise=1``): the grown network is then the same function but for it. New
batch norms expect rectified normal numbers where no images are given to take statistics from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InputError, InvalidArchitecture
from lightning_nas.ranges import Depth, Kernel, Side, Width
from lightning_nas.spaces.eas.inheriting import Weights, origins, transformed
from lightning_nas.spaces.eas.net2net import settle_identities
from lightning_nas.spaces.eas.networks import POOL, Layer, PlainForm, PlainNetwork
from lightning_nas.spaces.eas.plain import PlainNetworks
from lightning_nas.spaces.inheriting import InheritingSpace
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images

FILTERS = (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 576, 640)
UNITS = (64, 128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280)


class EASSpace(PlainNetworks, InheritingSpace):
    """Plain convolutional networks of EAS (Cai et al., AAAI 2018, arXiv:1707.04873, section 4), grown from a small one.

    Blocks of convolutions with a pool after each, then fully connected layers. Decisions: ``block_1_layers``, then the
    ``width`` and ``kernel`` of each layer; the block ``fc`` has no kernels. :meth:`widened` and :meth:`deepened` are
    the steps of the search (Net2Wider, Net2Deeper), and :meth:`inherit` gives the grown network the function of its
    parent. It has no supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper: plain networks only, no DenseNets. See the text of this module for noise and pools.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        filters: widths of a convolution, ascending.
        units: widths of a fully connected layer, ascending.
        kernels: sizes of the convolutions.
        pools: size and stride of the pool after each block of convolutions.
        start: widths of the start network, one layer a block with kernel 3.
        longest: largest number of layers of a block.
        dropout: probabilities after each pool and after each fully connected layer.
        noise: default of the noise of :meth:`inherit`.

    Raises:
        InputError: a start that is no network of this space, lists that are not ascending, or even kernels.

    Example:
        >>> space = EASSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions)
        ('eas_small', 18)
        >>> space = EASSpace("toy", image_size=8, in_channels=1, filters=[4, 8], units=[8], pools=[4], start=[4, 8])
        >>> space.tokens(space.start)
        ('conv-4-3', 'pool', 'fc-8')
        >>> grown = space.deepened(space.widened(space.start, 0), block=0, place=0, kernel=5)
        >>> space.tokens(grown)
        ('conv-8-3', 'conv-8-5', 'pool', 'fc-8')
        >>> network, x = space.network(space.start).eval(), torch.ones(1, 1, 8, 8)
        >>> child = space.inherit(network, space.start, grown, torch.Generator())
        >>> bool(torch.allclose(child(x), network(x), atol=1e-5))
        True
    """

    @sized_by_images(
        small={
            "name": "eas_small",
            "filters": (4, 8, 12, 16, 24, 32),
            "units": (8, 16, 32, 64),
            "pools": (2, 2),
            "start": (4, 8, 8),
            "longest": 3,
            "dropout": (0.0, 0.0),
            "noise": 1.0,
        },
        large={"noise": 1.0},
    )
    def __init__(
        self,
        name: str = "eas",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        filters: Sequence[Width] = FILTERS,
        units: Sequence[Width] = UNITS,
        kernels: Sequence[Kernel] = (1, 3, 5),
        pools: Sequence[Kernel] = (2, 2, 2, 4),
        start: Sequence[Width] = (16, 32, 64, 128, 256),
        longest: Depth = 10,
        dropout: Sequence[Probability] = (0.3, 0.5),
        noise: NonNegativeFloat = 0.0,
    ) -> None:
        self.noise = noise
        self.widths, self.kernels = (*[tuple(filters)] * len(pools), tuple(units)), tuple(kernels)
        self.longest = longest
        if any(list(listed) != sorted(set(listed)) for listed in (filters, units)) or any(k % 2 == 0 for k in kernels):
            raise InputError(
                f"the space {name!r} needs widths in ascending order and odd kernels; got filters={list(filters)}, "
                f"units={list(units)}, kernels={list(kernels)}"
            )
        legal = len(start) == len(self.widths) and all(w in ws for w, ws in zip(start, self.widths, strict=True))
        if not legal or 3 not in kernels:
            given = f"start={list(start)}, kernels={list(kernels)}"
            raise InputError(
                f"the space {name!r} starts with one layer a block ({len(self.widths)}) of kernel 3, widths from the "
                f"lists; got {given}"
            )
        form = PlainForm(in_channels, image_size, tuple(pools), (dropout[0], dropout[1]))
        self._settle(name, form, num_classes)
        self.start = self.of_layers([Layer(b, w, 3 if b < len(pools) else 0) for b, w in enumerate(start)])

    # -- growing ------------------------------------------------------------------------------------------------

    def tokens(self, architecture: Architecture) -> tuple[str, ...]:
        """List the tokens that a controller reads: the layers, and the pool at the end of each block."""
        return tuple(layer.token if layer else POOL for layer in self._sequence(architecture))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All possible tokens."""
        convolutions = [Layer(0, width, kernel).token for width in self.widths[0] for kernel in self.kernels]
        return (POOL, *convolutions, *(Layer(0, width, 0).token for width in self.widths[-1]))

    def _sequence(self, architecture: Architecture) -> list[Layer | None]:
        made, before = list[Layer | None](), 0
        for layer in self.layers(architecture):
            made += [None] * (layer.block - before)
            made.append(layer)
            before = layer.block
        return made

    def can_widen(self, architecture: Architecture) -> tuple[bool, ...]:
        """Tell for each token whether it is a layer that can be widened."""
        return tuple(bool(it and it.width < self.widths[it.block][-1]) for it in self._sequence(architecture))

    def widened(self, architecture: Architecture, token: int) -> Architecture:
        """Return the architecture in which one layer has the next width of its list.

        Args:
            architecture: an architecture of this space.
            token: number of the layer among :meth:`tokens`.

        Raises:
            InvalidArchitecture: see :meth:`can_widen`.
        """
        sequence, can = self._sequence(architecture), self.can_widen(architecture)
        if not (0 <= token < len(can) and can[token]):
            raise InvalidArchitecture(f"{self.name}: nothing to widen at {token} of {self.tokens(architecture)}")
        layer = sequence[token]
        assert layer is not None
        sequence[token] = layer._replace(width=next(w for w in self.widths[layer.block] if w > layer.width))
        return self.of_layers([layer for layer in sequence if layer])

    def can_deepen(self, architecture: Architecture) -> tuple[int, ...]:
        """Count the places for a new layer in each block: one after each layer, none in a full block."""
        layers = self.layers(architecture)
        counts = [sum(layer.block == block for layer in layers) for block in range(len(self.widths))]
        return tuple(count if count < self.longest else 0 for count in counts)

    def deepened(self, architecture: Architecture, block: int, place: int, kernel: int | None = None) -> Architecture:
        """Return the architecture with a new layer, as wide as the layer before it.

        Args:
            architecture: an architecture of this space.
            block: number of the block, from 0; the last block has the fully connected layers.
            place: number of the layer in its block, from 0, that the new layer follows.
            kernel: size of a convolution, None for a fully connected layer.

        Raises:
            InvalidArchitecture: see :meth:`can_deepen`; or an illegal kernel.
        """
        can, layers = self.can_deepen(architecture), list(self.layers(architecture))
        kernels = self.kernels if block < len(self.form.pools) else (None,)
        if not (0 <= block < len(can) and 0 <= place < can[block] and kernel in kernels):
            raise InvalidArchitecture(
                f"{self.name}: no layer of kernel {kernel} fits in block {block} after layer {place}; places: {can}, "
                f"kernels: {kernels}"
            )
        before = next(i for i, layer in enumerate(layers) if layer.block == block) + place
        layers.insert(before + 1, layers[before]._replace(kernel=kernel or 0))
        return self.of_layers(layers)

    def inherit(
        self,
        parent: nn.Module,
        origin: Architecture,
        architecture: Architecture,
        generator: torch.Generator,
        *,
        images: Tensor | None = None,
        noise: float | None = None,
    ) -> PlainNetwork:
        """Build the network of ``architecture`` with the function of ``parent`` in evaluation mode.

        Args:
            parent: a network of this space; it is not changed.
            origin: architecture of the parent.
            architecture: made from ``origin`` by any number of :meth:`widened` and :meth:`deepened`.
            generator: draws copies and noise.
            images: training images (N, C, H, W) from which the batch norms of new layers take their statistics, 64 in
                the authors' code; None assumes rectified normal numbers. Better statistics change the function less
                when training begins.
            noise: noise on copies and new layers, in units of the authors'; the space's unless given. At 0 the
                function is preserved exactly, but copies of a unit stay equal where there is no dropout.

        Raises:
            InvalidArchitecture: the child is narrower or has another kernel somewhere.
        """
        old, new = self.layers(origin), self.layers(architecture)
        made_of = origins(old, new)
        if made_of is None:
            raise InvalidArchitecture(
                f"{self.name}: {' '.join(self.tokens(architecture))} cannot be grown from "
                f"{' '.join(self.tokens(origin))}"
            )
        weights = Weights.of(cast("PlainNetwork", parent))
        with torch.device("meta"):  # no random number is drawn: every weight is inherited
            child = self.network(architecture, num_classes=len(weights.bias))
        child.to_empty(device=weights.bias.device).to(weights.bias.dtype)
        pixels = self.form.sizes[-1] ** 2
        noise = self.noise if noise is None else noise
        transformed(weights, old, new, made_of, pixels, generator, noise).into(child)
        if images is not None:
            norms = [layer.norm for layer, known in zip(child.layers, made_of, strict=True) if known is None]
            settle_identities(child, cast("list[_BatchNorm]", norms), images.to(weights.bias))
        return child.train(parent.training)
