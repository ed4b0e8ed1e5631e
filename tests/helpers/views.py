"""A toy space of 81 architectures, each of whose choices matters for the score, and its data."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.data.samples import Arrays
from lightning_nas.data.split import Images
from lightning_nas.ops.mixed import Choice, Mix, plain
from lightning_nas.testing.toys import CHANNELS, OPERATIONS, SIZE, ToyData, ToyNetwork, ToySpace, ToySupernet


def _views(x: Tensor, layers: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    seen = torch.zeros_like(x)
    for quadrant, layer in enumerate(layers):
        row, column = divmod(quadrant, 2)
        view = torch.zeros_like(x)
        here = (..., slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        view[here] = x[here]
        seen = seen + layer(view)
    return seen


class ViewSpace(ToySpace):
    """Four choices, each fed one quadrant of the image: 81 architectures. See :class:`ViewData`."""

    join = staticmethod(_views)

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 16
        self.decisions = tuple(Decision(f"view_{i}", tuple(OPERATIONS)) for i in range(4))
        self.gate_shapes = {"layers": (4, len(OPERATIONS))}

    @property
    def best(self) -> Architecture:
        return self.validate({decision.name: "keep" for decision in self.decisions})

    def network(self, architecture: Architecture, **_: Any) -> nn.Module:
        return ToyNetwork([OPERATIONS[o](CHANNELS) for o in architecture.options], self.join, self.num_classes)

    def supernet(self, mix: Mix | None = None) -> ToySupernet:
        choice = Choice(tuple(OPERATIONS), lambda option, c, _: OPERATIONS[option](c), CHANNELS, CHANNELS)
        made = ToySupernet([(mix or plain)(choice) for _ in self.decisions], self.join)
        made.head[-1] = nn.Linear(CHANNELS * SIZE * SIZE, self.num_classes)  # type: ignore[index]
        return made


class Nested:
    """Makes a toy space one whose networks count as parts of the largest."""

    nests = True
    validate: Callable[..., Architecture]
    decisions: tuple[Decision, ...]

    @property
    def smallest(self) -> Architecture:
        """An image of one value."""
        return self.validate({decision.name: "blur" for decision in self.decisions})

    @property
    def largest(self) -> Architecture:
        """The whole image."""
        return self.validate({decision.name: "keep" for decision in self.decisions})


class NestedToySpace(Nested, ToySpace):
    """Nine architectures."""


class NestedViewSpace(Nested, ViewSpace):
    """81 architectures."""


class ViewData(ToyData):
    """16 classes of four bits: is the left or the right of each quadrant bright? A quadrant lost halves the score."""

    def load(self) -> Images:
        draw, labels = torch.Generator().manual_seed(0), torch.arange(768) % 16
        images = torch.randint(0, 100, (768, 1, SIZE, SIZE), generator=draw)
        for quadrant in range(4):
            row, column = divmod(quadrant, 2)
            for bit in range(2):
                chosen = (labels >> quadrant) % 2 == bit
                images[chosen, :, 2 * row : 2 * row + 2, 2 * column + bit] += 150
        arrays = Arrays(images.to(torch.uint8), labels)
        return Images(arrays, test=arrays)
