"""Spaces and data small enough for exhaustive tests, with one architecture that is known to be best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.data.augmented import InMemoryImages
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ops.mixed import Choice, Mix, MixedOp, plain
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph, chosen_state
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sizes import classes_of

CHANNELS, SIZE, CLASSES = 4, 4, 4


class Blur(nn.Module):
    """Replaces every pixel by the mean of all, so that positions are lost."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)


class Swap(nn.Module):
    """Replaces every image by its neighbour in the batch, which misleads also in a mixture."""

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, 0)


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {  # by number of channels
    "blur": lambda _: Blur(),
    "swap": lambda _: Swap(),
    "keep": lambda channels: conv_bn(channels, channels),
}


Join = Callable[[Tensor, Iterable[Callable[[Tensor], Tensor]]], Tensor]
"""Combines the operations of a network."""


def _in_a_row(x: Tensor, layers: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _side_by_side(x: Tensor, layers: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    rows, columns = (layer(x.mean(d, keepdim=True).expand_as(x)) for layer, d in zip(layers, (3, 2), strict=True))
    return rows + columns


class ToySpace(WeightSharingSpace):
    """Layers of three operations on 4 x 4 images, for :func:`toy_images`, whose class is the position of the light.

    The best architecture keeps the image in all layers, see :attr:`best`. Two layers give nine architectures.

    Args:
        layers: number of layers.

    >>> space = ToySpace()
    >>> str(space.best)
    'keep keep'
    """

    join: Join = staticmethod(_in_a_row)

    def __init__(self, layers: int = 2) -> None:
        self.name = "toy"
        self.input_shape = (1, SIZE, SIZE)
        self.num_classes = CLASSES
        self.decisions = tuple(Decision(f"layer_{i + 1}", tuple(OPERATIONS)) for i in range(layers))
        self.gate_shapes = {"layers": (layers, len(OPERATIONS))}
        self.gate_options = {"layers": tuple(OPERATIONS)}

    @property
    def best(self) -> Architecture:
        """Architecture that a search should find."""
        return self.validate({decision.name: "keep" for decision in self.decisions})

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> nn.Module:
        no_auxiliary(self, auxiliary)
        chosen = [OPERATIONS[option](CHANNELS) for option in self.validate(architecture).options]
        return ToyNetwork(chosen, self.join, classes_of(num_classes, CLASSES))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        names = ["input", *(name for name, _ in architecture.choices), "output"]
        labels = ["image", *architecture.options, "classes"]
        return chain_graph(zip(names, labels, strict=True))

    def operations(self) -> dict[str, Operation]:
        inner = (CHANNELS, SIZE, SIZE)
        fixed = {"stem": Operation(_stem, self.input_shape), "head": Operation(lambda: _head(CLASSES), inner)}
        return fixed | {option: Operation(partial(make, CHANNELS), inner) for option, make in OPERATIONS.items()}

    def cost_keys(self, architecture: Architecture) -> Keys:
        return ("stem", "head", *architecture.options)

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        row = tuple((option,) for option in OPERATIONS)
        return ("stem", "head"), {"layers": (row,) * len(self.decisions)}

    def supernet(self, mix: Mix | None = None) -> ToySupernet:
        choice = Choice(tuple(OPERATIONS), lambda option, c, _: OPERATIONS[option](c), CHANNELS, CHANNELS)
        return ToySupernet([(mix or plain)(choice) for _ in self.decisions], self.join)

    def gates(self, architecture: Architecture) -> Gates:
        chosen = [list(OPERATIONS).index(option) for option in self.validate(architecture).options]
        return Gates.one_hot({"layers": chosen}, self.gate_shapes)

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        best = probabilities["layers"].argmax(-1).tolist()
        return Architecture(self.name, tuple((f"layer_{i + 1}", list(OPERATIONS)[k]) for i, k in enumerate(best)))

    def extract(self, supernet: Supernet, architecture: Architecture) -> nn.Module:
        network = self.network(architecture).to(next(supernet.parameters()))
        state = chosen_state(supernet.state_dict(), "layers", architecture.options)
        network.load_state_dict(state)
        return network


class ToyNodeSpace(ToySpace):
    """Sum of the same operations: one takes the means of rows, the other those of columns.

    For methods that run one option at a time: they learn the value of an option from the scale of its output, which
    matters in a sum but not in a chain, where the next batch norm removes it.

    >>> str(ToyNodeSpace().best)
    'keep keep'
    """

    join = staticmethod(_side_by_side)

    def __init__(self) -> None:
        super().__init__()
        self.name = "toy_node"

    def nodes(self, group: str) -> tuple[int, ...]:
        """List the nodes: both choices lead to one."""
        return (0, 0)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node("input", label="image")
        graph.add_node("output", label="classes")
        for name, option in architecture.choices:
            graph.add_node(name, label=option)
            graph.add_edges_from([("input", name), (name, "output")])
        return graph


class ToyNetwork(nn.Module):
    """Stem, operations, head."""

    def __init__(self, layers: Sequence[nn.Module], join: Join, num_classes: int) -> None:
        super().__init__()
        self.stem, self.head, self.layers = _stem(), _head(num_classes), nn.ModuleList(layers)
        self._join = join

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self._join(self.stem(x), self.layers))
        return logits


class ToySupernet(Supernet):
    """Stem, mixed operations, head."""

    def __init__(self, layers: Sequence[MixedOp], join: Join) -> None:
        super().__init__()
        self.stem, self.head, self.layers = _stem(), _head(CLASSES), nn.ModuleList(layers)
        self._join = join

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        told = zip(self.layers, gates.values["layers"], gates.active["layers"], strict=True)
        layers = [partial(layer, gates=row, active=active) for layer, row, active in told]
        logits: Tensor = self.head(self._join(self.stem(x), layers))
        return logits


def _stem() -> nn.Module:
    return conv_bn(1, CHANNELS)


def _head(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIZE * SIZE, num_classes))


class ToyData(InMemoryImages):
    """Data module of :func:`toy_images`, with 128 for the test; an epoch is a few batches."""

    def __init__(self, images: int = 512, **options: Any) -> None:
        super().__init__(**{"batch_size": 32, "arch_fraction": 0.5, "flip": False} | options)
        self.images = images

    def load(self) -> Images:
        return Images(Arrays(*toy_images(self.images, seed=0)), test=Arrays(*toy_images(128, seed=1)))


def toy_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Make noise with one bright quadrant, the class: uint8 images (count, 1, 4, 4), labels (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 120, (count, 1, SIZE, SIZE), generator=generator)
    for quadrant in range(CLASSES):
        row, column = divmod(quadrant, 2)
        images[labels == quadrant, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 100
    return images.to(torch.uint8), labels
