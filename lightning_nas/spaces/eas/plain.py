"""Decisions, networks and cost of EAS' plain networks (Cai et al., AAAI 2018, arXiv:1707.04873), without growing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import networkx as nx
from torch import nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.eas.networks import Layer, Piece, PlainForm, PlainNetwork
from lightning_nas.spaces.sizes import classes_of


class PlainNetworks(SearchSpace):
    """Blocks of convolutions with a pool after each, then fully connected layers: any number of each, any widths.

    Attributes:
        form: everything about a network but its layers.
        widths: of each block, that its layers can have, ascending; the last block is of fully connected layers.
        kernels: sizes of the convolutions.
        longest: largest number of layers of a block.
    """

    form: PlainForm
    widths: tuple[tuple[int, ...], ...]
    kernels: tuple[int, ...]
    longest: int

    def _settle(self, name: str, form: PlainForm, num_classes: int) -> None:
        """Set name, sizes and decisions; the other attributes must be set before."""
        self.name, self.form, self.num_classes = name, form, num_classes
        self.input_shape = (form.in_channels, form.image_size, form.image_size)
        self._asks: dict[str, tuple[str, int]] = {}  # of decisions on a layer: which count it is up to, its number
        self.decisions = tuple(d for block in range(len(self.widths)) for d in self._decisions(block))

    def _decisions(self, block: int) -> Iterator[Decision]:
        """Yield the number of layers, then width and kernel of each layer."""
        prefix, convolutions = self._prefix(block), block < len(self.form.pools)
        yield Decision(f"{prefix}_layers", tuple(map(str, range(1, self.longest + 1))))
        for number in range(1, self.longest + 1):
            asked = [Decision(_name(prefix, number, "width"), tuple(map(str, self.widths[block])))]
            if convolutions:
                asked.append(Decision(_name(prefix, number, "kernel"), tuple(map(str, self.kernels))))
            self._asks |= {decision.name: (f"{prefix}_layers", number) for decision in asked}
            yield from asked

    def _prefix(self, block: int) -> str:
        return f"block_{block + 1}" if block < len(self.form.pools) else "fc"

    # -- architectures ------------------------------------------------------------------------------------------

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options; none for layers beyond the depth of their block."""
        count, number = self._asks.get(decision.name, ("", 0))
        return decision.options if number <= int(partial.get(count, 0)) or not number else ()

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """The layers of a network, in order."""
        choices, made = dict(self.validate(architecture).choices), list[Layer]()
        for block in range(len(self.widths)):
            prefix = self._prefix(block)
            for number in range(1, int(choices[f"{prefix}_layers"]) + 1):
                kernel = choices.get(_name(prefix, number, "kernel"), "0")
                made.append(Layer(block, int(choices[_name(prefix, number, "width")]), int(kernel)))
        return tuple(made)

    def of_layers(self, layers: Sequence[Layer]) -> Architecture:
        """The inverse of :meth:`layers`.

        Raises:
            InvalidArchitecture: no network of this space has these.
        """
        choices: dict[str, str] = {}
        for block in range(len(self.widths)):
            own, prefix = [layer for layer in layers if layer.block == block], self._prefix(block)
            choices[f"{prefix}_layers"] = str(len(own))
            for number, layer in enumerate(own, start=1):
                choices[_name(prefix, number, "width")] = str(layer.width)
                if layer.kernel:
                    choices[_name(prefix, number, "kernel")] = str(layer.kernel)
        return self.validate(choices)

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> PlainNetwork:
        """The layers, pools and dropout between them, a classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        return PlainNetwork(self.form, self.layers(architecture), classes_of(num_classes, self.num_classes))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, layers, pools, classifier."""
        nodes, block = [("input", "x".join(map(str, self.input_shape)))], 0
        for i, layer in enumerate(self.layers(architecture), start=1):
            if layer.block > block:
                nodes.append((f"pool_{layer.block}", f"pool {self.form.pools[block]}"))
            block = layer.block
            kind = f"conv {layer.kernel}x{layer.kernel}" if layer.kernel else "fully connected"
            nodes.append((f"layer_{i:02d}", f"{kind}\n{layer.width}"))
        return chain_graph([*nodes, ("classifier", f"{self.num_classes} classes")])

    # -- cost ---------------------------------------------------------------------------------------------------

    def _classifier(self, units: int) -> tuple[str, Operation]:
        def build() -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(units, self.num_classes))

        return f"classifier {units} -> {self.num_classes}", Operation(build, (units, 1, 1))

    def _pool(self, block: int, width: int) -> tuple[str, Operation]:
        pool, size = self.form.pools[block], self.form.sizes[block]
        build = partial(nn.MaxPool2d, pool, ceil_mode=True)
        return f"pool{pool} {width}x{size}x{size}", Operation(build, (width, size, size))

    def _possible(self) -> Iterator[Piece]:
        """Every layer that some network has."""
        before: tuple[int, ...] = (self.form.in_channels,)
        for block, (widths, size) in enumerate(zip(self.widths, self.form.sizes, strict=True)):
            if block < len(self.form.pools):
                inputs = sorted({*before, *widths})
                yield from (Piece(k, a, size, b) for k in self.kernels for a in inputs for b in widths)
            else:
                yield from (Piece(0, a, size, b) for a in before for b in widths)
                yield from (Piece(0, a, 1, b) for a in widths for b in widths)
            before = widths

    def operations(self) -> dict[str, Operation]:
        """Layers between all widths, pools and classifiers."""
        made = {piece.key: piece.operation() for piece in self._possible()}
        made |= dict(self._pool(b, width) for b in range(len(self.form.pools)) for width in self.widths[b])
        return made | dict(self._classifier(units) for units in self.widths[-1])

    def cost_keys(self, architecture: Architecture) -> Keys:
        """The layers, a pool at the end of each block, the classifier."""
        layers = self.layers(architecture)
        last = {layer.block: layer.width for layer in layers}
        pools = [self._pool(block, last[block])[0] for block in range(len(self.form.pools))]
        return (*(p.key for p in self.form.pieces(layers)), *pools, self._classifier(layers[-1].width)[0])


def _name(prefix: str, number: int, question: str) -> str:
    return f"{prefix}_layer_{number:02d}_{question}"
