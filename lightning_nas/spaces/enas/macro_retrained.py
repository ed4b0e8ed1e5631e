"""Retrained networks of ENAS' macro space (arXiv:1802.03268), and the decisions of both networks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import networkx as nx
from pydantic import PositiveInt

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ranges import Layers, Side, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary, shape_text
from lightning_nas.spaces.connections import connected_layers, connection_decisions, connection_meaning
from lightning_nas.spaces.enas.macro_networks import MacroForm, MacroNetwork
from lightning_nas.spaces.enas.operations import MACRO, Merge, fixed_branch
from lightning_nas.spaces.meanings import operation_meaning
from lightning_nas.spaces.sizes import InputShape, Probability, sized_by_images


class MacroLayers(SearchSpace):
    """Base class of both spaces of macro networks: their decisions.

    Attributes:
        form: sizes of the network.
    """

    form: MacroForm

    def _settle(self, name: str, form: MacroForm) -> None:
        self.name, self.form = name, form
        self.input_shape, self.num_classes = (form.in_channels, form.image_size, form.image_size), form.num_classes
        self.decisions = tuple(_decisions(form.layers))

    def chosen(self, architecture: Architecture) -> tuple[list[str], list[tuple[int, ...]]]:
        """Read the operation of each layer, and the tensors that it is connected to."""
        choices, layers = dict(self.validate(architecture).choices), range(1, self.form.layers + 1)
        skips = [connected_layers(k, range(k - 1), choices) for k in layers]
        return [choices[f"layer_{k}_op"] for k in layers], skips

    def meaning(self, option: str) -> str:
        return connection_meaning(option) or operation_meaning(option)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Draw stem and layers, each with an arrow from its input and from the tensors that it is connected to."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node("layer_0", label=f"stem\n{self.form.channels} channels")
        for k, (option, connected) in enumerate(zip(*self.chosen(architecture), strict=True), start=1):
            graph.add_node(f"layer_{k}", label=f"{k}: {option}")
            graph.add_edges_from((f"layer_{j}", f"layer_{k}") for j in (*connected, k - 1))
        graph.add_node("output", label="classes")
        graph.add_edge(f"layer_{self.form.layers}", "output")
        return graph


class ENASMacroNetworks(MacroLayers):
    """Networks that ENAS retrains in its macro space (arXiv:1802.03268): architectures to name and train, no supernet.

    Decisions are those of :class:`~lightning_nas.spaces.enas.macro.ENASMacroSpace`. As in the paper's code every
    convolution is a full one, also for the options called separable; tensors are merged by concatenation and a 1x1
    convolution; channels double where the size is halved, and all tensors are halved there.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, at least 4.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        layers: number of layers, at least 3.
        channels: channels of the first layers, an even number.
        dropout: probability before the classifier.

    Raises:
        InputError: a size out of range.

    Example:
        >>> space = ENASMacroNetworks(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('max_pool_3x3')
        ('enas_macro_small', 15, '3x3 max pooling')
        >>> import torch
        >>> network = space.network(space.sample(torch.Generator().manual_seed(0)))
        >>> tuple(network(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)
    """

    @sized_by_images(small={"name": "enas_macro_small", "layers": 5, "channels": 8, "dropout": 0.0})
    def __init__(
        self,
        name: str = "enas_macro",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        layers: Layers = 24,
        channels: Width = 96,
        dropout: Probability = 0.5,
    ) -> None:
        self._settle(name, MacroForm(image_size, in_channels, num_classes, layers, channels, dropout, doubles=True))

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> MacroNetwork:
        """Stem, layers, classifier; never an auxiliary one."""
        no_auxiliary(self, auxiliary)
        form, (options, skips) = self.form, self.chosen(architecture)
        widths = [form.shape(k)[0] for k in range(1, form.layers + 1)]
        layers = [fixed_branch(option, width, width) for option, width in zip(options, widths, strict=True)]
        merges = [Merge(len(connected) + 1, width) for connected, width in zip(skips[1:], widths[1:], strict=True)]
        halved = {pool: range(pool + 1) for pool in form.pools}
        return MacroNetwork(form, layers, merges, skips, halved, form.make_head(num_classes))

    # -- cost ---------------------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Operation]:
        """Stem, classifier, halvings; at every width every operation and every number of tensors to merge."""
        form = self.form
        made = dict([form.stem(), form.head(), *map(form.halving, form.pools)])
        for k in range(1, form.layers + 1):
            shape = form.shape(k)
            for option in MACRO:
                made[_key(option, shape)] = Operation(partial(fixed_branch, option, shape[0], shape[0]), shape)
            for count in range(1, k + 1):
                build = partial(relu_conv_bn, count * shape[0], shape[0])
                made[_merge_key(count, shape)] = Operation(build, (count * shape[0], *shape[1:]))
        return made

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Stem, layers, merges, a halving of each tensor there is, classifier."""
        form, keys = self.form, [self.form.stem()[0]]
        for k, (option, connected) in enumerate(zip(*self.chosen(architecture), strict=True), start=1):
            keys.append(_key(option, form.shape(k)))
            if k > 1:
                keys.append(_merge_key(len(connected) + 1, form.shape(k)))
            if k in form.pools:
                keys += [form.halving(k)[0]] * (k + 1)
        return (*keys, form.head()[0])


def _key(option: str, shape: tuple[int, ...]) -> str:
    return f"{option} {shape_text(shape)}"


def _merge_key(count: int, shape: tuple[int, ...]) -> str:
    return f"merge {count} {shape_text(shape)}"


def _decisions(layers: int) -> Iterator[Decision]:
    """Yield for each layer its operation, then whether it is connected to the stem, to layer 1, ..."""
    for k in range(1, layers + 1):
        yield Decision(f"layer_{k}_op", MACRO, f"layer_{k}")
        yield from connection_decisions(k, range(k - 1))
