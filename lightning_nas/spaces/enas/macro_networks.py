"""Networks of ENAS' macro space (arXiv:1802.03268): layers with connections to any earlier layers.

Tensor 0 is the stem's output, tensor k that of layer k (counted from 1). A layer works on the tensor before it, and
its result is merged with the tensors that it is connected to. After one third and two thirds of the layers tensors are
halved, each by its own factorised reduction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.cells import FactorizedReduction, pooled_classifier
from lightning_nas.ops.mixed import Choice, Mix
from lightning_nas.spaces.base import Operation, Supernet, shape_text
from lightning_nas.spaces.enas.operations import MACRO, Sum, branch
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sizes import classes_of

Skips = Sequence[Sequence[int]]
"""Earlier tensors that each layer is connected to, without its input."""


@dataclass(frozen=True)
class MacroForm:
    """Sizes of a network, without its choices.

    Args:
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: number of layers.
        channels: channels of the first layers.
        dropout: probability before the classifier.
        doubles: the channels are doubled where the size is halved.

    Raises:
        InputError: images below 4 pixels, fewer than three layers, or odd channels.
    """

    image_size: int
    in_channels: int
    num_classes: int
    layers: int
    channels: int
    dropout: float
    doubles: bool

    def __post_init__(self) -> None:
        if self.image_size < 4:
            raise InputError(f"ENAS' macro networks need images of at least 4 pixels, got {self.image_size}")
        if self.layers < 3:
            raise InputError(f"ENAS' macro networks have at least 3 layers, got layers={self.layers}")
        if self.channels % 2:
            raise InputError(f"ENAS' macro networks need an even number of channels, got channels={self.channels}")

    @property
    def pools(self) -> tuple[int, int]:
        """The layers, counted from 1, after which tensors are halved.

        >>> MacroForm(32, 3, 10, 12, 36, 0.1, doubles=False).pools
        (4, 8)
        """
        return self.layers // 3, 2 * (self.layers // 3)

    def shape(self, layer: int) -> tuple[int, int, int]:
        """(channels, size, size) of the tensors that a layer sees and gives; layer 0 is the stem."""
        stage = sum(pool < layer for pool in self.pools)
        size = self.image_size
        for _ in range(stage):
            size = -(-size // 2)
        return self.channels * 2**stage if self.doubles else self.channels, size, size

    def halving(self, pool: int) -> tuple[str, Operation]:
        """Cost key and operation of the halving of a tensor after a layer."""
        shape, channels = self.shape(pool), self.shape(pool + 1)[0]
        build = partial(FactorizedReduction, shape[0], channels, relu=False)
        return f"halve {shape_text(shape)} -> {channels}", Operation(build, shape)

    def stem(self) -> tuple[str, Operation]:
        """Cost key and operation of the stem."""
        shape = (self.in_channels, self.image_size, self.image_size)
        build = partial(conv_bn, self.in_channels, self.channels, 3, relu=False)
        return f"stem {shape_text(shape)} -> {self.channels}", Operation(build, shape)

    def make_head(self, num_classes: int | None = None) -> nn.Module:
        """A fresh classifier."""
        channels = self.shape(self.layers)[0]
        return pooled_classifier(channels, classes_of(num_classes, self.num_classes), dropout=self.dropout, relu=False)

    def head(self) -> tuple[str, Operation]:
        """Cost key and operation of the classifier."""
        shape = self.shape(self.layers)
        return f"head {shape_text(shape)} -> {self.num_classes}", Operation(self.make_head, shape)


def needed(skips: Skips, pool: int) -> list[int]:
    """The tensors up to ``pool`` that layers after it work on or are connected to.

    >>> needed([(), (), (1,), (0, 2)], 2)
    [0, 1, 2]
    """
    later = {tensor for connected in skips[pool:] for tensor in connected if tensor <= pool}
    return sorted(later | {pool})


class MacroNetwork(nn.Module):
    """Stand-alone network. Images (N, C, H, W) in, logits (N, num_classes) out.

    Args:
        form: where tensors are halved.
        layers: module of each layer, applied to the tensor before it.
        merges: module of the second and every later layer that merges a list of tensors, its own last.
        skips: the connections.
        halved: tensors that are halved, by the layer after which that happens.
        head: the classifier.
    """

    def __init__(
        self,
        form: MacroForm,
        layers: Sequence[nn.Module],
        merges: Sequence[nn.Module],
        skips: Skips,
        halved: Mapping[int, Sequence[int]],
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.skips = tuple(map(tuple, skips))
        self.stem, self.head = form.stem()[1].build(), head
        self.layers, self.merges = nn.ModuleList(layers), nn.ModuleList(merges)
        self.halved, self.halvings = {k: tuple(tensors) for k, tensors in halved.items()}, make_halvings(form, halved)

    def forward(self, x: Tensor) -> Tensor:
        tensors = {0: self.stem(x)}
        for k, layer in enumerate(self.layers, start=1):
            y = layer(tensors[k - 1])
            if k > 1:
                y = self.merges[k - 2]([*(tensors[j] for j in self.skips[k - 1]), y])
            tensors[k] = y
            if k in self.halved:
                tensors = {j: self.halvings[f"{k}_{j}"](tensors[j]) for j in self.halved[k]}
        logits: Tensor = self.head(tensors[len(self.layers)])
        return logits


class MacroSupernet(Supernet):
    """The network whose layers mix all operations and may be connected to all earlier tensors.

    Connections are weighted sums. A tensor that no active connection needs is not halved.
    """

    def __init__(self, form: MacroForm, mix: Mix) -> None:
        super().__init__()
        self.pools = form.pools
        choice = Choice(MACRO, branch, form.channels, form.channels)
        self.stem, self.head = form.stem()[1].build(), form.make_head()
        self.layers = nn.ModuleList(mix(choice) for _ in range(form.layers))
        self.merges = nn.ModuleList(Sum(form.channels) for _ in range(form.layers - 1))
        self.halvings = make_halvings(form, {pool: range(pool + 1) for pool in form.pools})

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each layer's operations, and weight each connection by the gate of "yes"."""
        if x.device.type == "cpu":  # two thirds of the time of the other order of channels
            x = x.contiguous(memory_format=torch.channels_last)
        rows, runs = gates.values["operations"], gates.active["operations"]
        connected = gates.values["skips"][:, 1].to(x.dtype)
        skips = [
            [j for j in range(k - 1) if 1 in gates.active["skips"][skip_row(k, j)]]
            for k in range(1, len(self.layers) + 1)
        ]
        tensors = {0: self.stem(x)}
        for k, layer in enumerate(self.layers, start=1):
            y = layer(tensors[k - 1], rows[k - 1], runs[k - 1])
            if k > 1:
                y = self.merges[k - 2]([*(connected[skip_row(k, j)] * tensors[j] for j in skips[k - 1]), y])
            tensors[k] = y
            if k in self.pools:
                tensors = {j: self.halvings[f"{k}_{j}"](tensors[j]) for j in needed(skips, k)}
        logits: Tensor = self.head(tensors[len(self.layers)])
        return logits


def skip_row(layer: int, tensor: int) -> int:
    """The row of gates that says whether a layer is connected to a tensor.

    >>> [skip_row(layer, tensor) for layer in (2, 3, 4) for tensor in range(layer - 1)]
    [0, 1, 2, 3, 4, 5]
    """
    return (layer - 1) * (layer - 2) // 2 + tensor


def make_halvings(form: MacroForm, halved: Mapping[int, Iterable[int]]) -> nn.ModuleDict:
    """Fresh factorised reductions by ``LAYER_TENSOR``."""
    return nn.ModuleDict({f"{k}_{j}": form.halving(k)[1].build() for k, tensors in halved.items() for j in tensors})
