"""Transformation of weights for a plain network that was made wider and deeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from lightning_nas.spaces.eas.net2net import (
    identity_norm,
    identity_weight,
    rectified_moments,
    remapping,
    wider_columns,
    wider_norm,
    wider_rows,
)
from lightning_nas.spaces.eas.networks import Layer, PlainNetwork

EPS = 1e-5  # of PyTorch's batch norms

Origins = tuple[int | None, ...]
"""Number of the parent's layer that each layer of the child comes from; None for a new layer."""


def origins(parent: Sequence[Layer], child: Sequence[Layer]) -> Origins | None:
    """Find a way in which ``child`` can be made from ``parent``; None if there is none.

    A layer keeps its kernel and never gets narrower; a new one stands after one of its block, and is at least as wide
    as that was in the parent.

    >>> origins([Layer(0, 4, 3)], [Layer(0, 8, 3), Layer(0, 4, 5)])
    (0, None)
    >>> origins([Layer(0, 4, 3)], [Layer(0, 4, 5), Layer(0, 8, 3)]) is None
    True
    """

    @cache
    def rest(i: int, j: int) -> Origins | None:
        """For the layers of the child from j on, when the first i of the parent are used."""
        if j == len(child):
            return () if i == len(parent) else None
        layer = child[j]
        if i < len(parent):
            block, width, kernel = parent[i]
            known = layer.width >= width and (layer.block, layer.kernel) == (block, kernel)
            if known and (after := rest(i + 1, j + 1)) is not None:
                return (i, *after)
        new = i > 0 and parent[i - 1].block == layer.block and layer.width >= parent[i - 1].width
        if new and (after := rest(i, j + 1)) is not None:
            return (None, *after)
        return None

    return rest(0, 0)


@dataclass
class Weights:
    """Weights of a network layer by layer, during a transformation.

    Attributes:
        layers: weight of each layer and of the classifier.
        norms: state of each layer's batch norm.
        bias: bias of the classifier.
    """

    layers: list[Tensor] = field(default_factory=list)
    norms: list[dict[str, Tensor]] = field(default_factory=list)
    bias: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(cls, network: PlainNetwork) -> Weights:
        """Copy the weights of ``network``."""
        states = [{name: v.detach().clone() for name, v in part.state_dict().items()} for part in network.layers]
        last = {name: v.detach().clone() for name, v in network.classifier.state_dict().items()}
        norms = [{n.removeprefix("norm."): v for n, v in s.items() if n.startswith("norm.")} for s in states]
        return cls([_weight(state) for state in states] + [last["weight"]], norms, last["bias"])

    def into(self, network: PlainNetwork) -> None:
        """Load the weights into ``network``."""
        for part, weight, norm in zip(network.layers, self.layers, self.norms, strict=False):
            name = "conv" if weight.dim() == 4 else "linear"
            part.load_state_dict({f"{name}.weight": weight} | {f"norm.{n}": v for n, v in norm.items()})
        network.classifier.load_state_dict({"weight": self.layers[-1], "bias": self.bias})


def transformed(
    weights: Weights,
    parent: Sequence[Layer],
    child: Sequence[Layer],
    made_of: Origins,
    pixels: int,
    generator: torch.Generator,
    noise: float = 0.0,
) -> Weights:
    """Widen the layers of the parent, then insert new identity layers, as the authors do.

    A layer whose follower is new and narrower gets the rest of its width after that. A new layer's batch norm expects
    what that of the layer before makes of normal numbers.

    Args:
        weights: of the parent.
        parent: its layers.
        child: the layers that are wanted.
        made_of: see :func:`origins`.
        pixels: that the map of the last convolution has where it is flattened.
        generator: of the copies and of noise.
        noise: in units of the authors'; without it the function is preserved.
    """
    widths, before = [layer.width for layer in child], 0
    narrowest: dict[int, int] = {}  # of each layer of the parent and the new ones after it
    for origin, width in zip(made_of, widths, strict=True):
        before = before if origin is None else origin
        narrowest[before] = min(narrowest.get(before, width), width)
    wide = _widened(weights, parent, list(narrowest.values()), pixels, generator, noise)
    made = Weights(bias=wide.bias)
    for origin, layer in zip(made_of, child, strict=True):
        if origin is None:
            norm = wide.norms[before]
            made.layers.append(identity_weight(len(norm["bias"]), layer.kernel, noise, generator).to(weights.bias))
            made.norms.append(identity_norm(*rectified_moments(norm["bias"], norm["weight"]), EPS))
        else:
            before = origin
            made.layers.append(wide.layers[origin])
            made.norms.append(wide.norms[origin])
    made.layers.append(wide.layers[-1])
    return _widened(made, child, widths, pixels, generator, noise)


def _widened(
    weights: Weights,
    layers: Sequence[Layer],
    widths: Sequence[int],
    pixels: int,
    generator: torch.Generator,
    noise: float,
) -> Weights:
    """Widen each layer to its wanted width."""
    made = Weights(list(weights.layers), list(weights.norms), weights.bias)
    for i, (layer, wanted) in enumerate(zip(layers, widths, strict=True)):
        if wanted > (width := len(made.layers[i])):
            units = remapping(width, wanted, generator)
            flattened = layer.kernel and not layers[i + 1].kernel
            made.layers[i] = wider_rows(made.layers[i], units, noise, generator)
            made.norms[i] = wider_norm(made.norms[i], units)
            made.layers[i + 1] = wider_columns(made.layers[i + 1], units, pixels if flattened else 1)
    return made


def _weight(state: Mapping[str, Tensor]) -> Tensor:
    return next(value for name, value in state.items() if name in ("conv.weight", "linear.weight"))
