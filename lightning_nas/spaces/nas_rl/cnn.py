r"""The convolutional search space of NAS-RL (Zoph and Le, ICLR 2017, arXiv:1611.01578, sections 3.1 and 3.3).

A layer is a convolution, batch norm and ReLU with a filter height, a filter width, a stride in either direction and a
number of filters. An anchor point at each layer asks of every earlier one whether it is an input. Inputs are
concatenated, and three rules make any answers a network: a layer without input works on the image, the outputs that no
layer works on go to the classifier together, and smaller tensors are filled up with zeros. Networks grow as the search
goes on: first 6 layers, two more after every 1,600 architectures.

Not stated in the paper, and chosen here: the zeros are at the bottom and on the right; the classifier takes the mean
over the pixels. Left out: the experiment in which a decision is about three layers and pools are put in by hand, and
the forty filters more of each of its layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise, product

import networkx as nx
from pydantic import PositiveInt
from torch import nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ranges import Kernel, Layers, Side, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary, shape_text
from lightning_nas.spaces.connections import connected_layers, connection_decisions, connection_meaning
from lightning_nas.spaces.nas_rl.networks import (
    ConnectedNetwork,
    Layer,
    Size,
    classifier,
    largest,
    loose,
    output_sizes,
)
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images


class NASRLCNNSpace(SearchSpace):
    """Convolutions connected by anchor points: NAS-RL (Zoph & Le, ICLR 2017, arXiv:1611.01578, sections 3.1 and 3.3).

    The first decision, ``depth``, is the number of layers; nothing is decided about layers beyond it. Then come, for
    each layer, ``layer_2_height``, ``_width`` (of its filters), ``_stride_height``, ``_stride_width`` (no decisions
    where there is one stride), ``_filters``, and ``layer_2_skip_1``, ... for each earlier layer. A search that grows
    its networks draws from ``space.at_depth(space.depths[stage])``; any other search draws the depth too. It has no
    supernet.

    Networks take images (N, C, H, W) and give logits (N, num_classes).

    Differs from the paper where the paper is silent; see the text of this module.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, with H = W, in place of ``image_size`` and ``in_channels``. Sizes that are
            not given then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        depths: numbers of layers, increasing; a growing search takes them in turn.
        heights: heights of filters, odd.
        widths: widths of filters, odd.
        strides: strides in either direction.
        filters: numbers of filters of a layer.

    Raises:
        InputError: a size out of range.

    Example:
        >>> space = NASRLCNNSpace(input_shape=(3, 32, 32), num_classes=10)
        >>> space.name, len(space.decisions), space.meaning('yes')
        ('nas_rl_cnn_small', 46, 'connected')
        >>> import torch
        >>> space = NASRLCNNSpace("toy", image_size=8, in_channels=1, depths=[2, 4], filters=[4, 6])
        >>> a = space.at_depth(2).sample(torch.Generator().manual_seed(0))
        >>> a["depth"], space.validate(a) == a
        ('2', True)
        >>> tuple(space.network(a)(torch.zeros(2, 1, 8, 8)).shape)
        (2, 10)
    """

    @sized_by_images(
        small={
            "name": "nas_rl_cnn_small",
            "depths": (2, 4, 6),
            "heights": (1, 3, 5),
            "widths": (1, 3, 5),
            "strides": (1, 2),
            "filters": (8, 12, 16),
        },
    )
    def __init__(
        self,
        name: str = "nas_rl_cnn",
        *,
        input_shape: InputShape | None = None,
        image_size: Side = 32,
        in_channels: Width = 3,
        num_classes: PositiveInt = 10,
        depths: Sequence[Layers] = (6, 8, 10, 12, 14, 16, 18, 20),
        heights: Sequence[Kernel] = (1, 3, 5, 7),
        widths: Sequence[Kernel] = (1, 3, 5, 7),
        strides: Sequence[Kernel] = (1, 2, 3),
        filters: Sequence[Width] = (24, 36, 48, 64),
    ) -> None:
        numbers = {"depths": depths, "heights": heights, "widths": widths, "strides": strides, "filters": filters}
        _check(name, numbers)
        self.name, self.input_shape, self.num_classes = name, (in_channels, image_size, image_size), num_classes
        self.depths, self.heights, self.widths = tuple(depths), tuple(heights), tuple(widths)
        self.strides, self.filters = tuple(strides), tuple(filters)
        self.decisions = (Decision("depth", _texts(depths)), *self._of_layers())
        self._legal_depths = self.decisions[0].options
        self._layer_of = {d.name: int(d.name.split("_")[1]) for d in self.decisions[1:]}

    def _of_layers(self) -> Iterator[Decision]:
        """In the order in which the paper's controller takes them."""
        strides = {"stride_height": self.strides, "stride_width": self.strides} if len(self.strides) > 1 else {}
        asked = {"height": self.heights, "width": self.widths, **strides, "filters": self.filters}
        for k in range(1, self.depths[-1] + 1):
            node = f"layer_{k}"
            for what, numbers in asked.items():
                yield Decision(f"{node}_{what}", _texts(numbers), node)
            yield from connection_decisions(k, range(1, k))

    # -- architectures ------------------------------------------------------------------------------------------

    def at_depth(self, layers: int) -> NASRLCNNSpace:
        """Return the same space with networks of ``layers`` layers only: a stage of a growing search.

        Raises:
            InputError: the space has no networks of that depth.
        """
        if layers not in self.depths:
            legal = ", ".join(_texts(self.depths))
            raise InputError(f"the space {self.name!r} has no networks of {layers} layers; legal: {legal}")
        stage = copy.copy(self)
        stage._legal_depths = (str(layers),)
        return stage

    def options(self, decision: Decision, partial: Mapping[str, str]) -> tuple[str, ...]:
        """List legal options; none for layers beyond the depth."""
        if decision.name == "depth":
            return self._legal_depths
        return decision.options if self._layer_of[decision.name] <= int(partial["depth"]) else ()

    def chosen(self, architecture: Architecture) -> list[Layer]:
        """Read the layers, with the inputs that the paper's rules give them."""
        choices, layers = dict(self.validate(architecture).choices), list[Layer]()
        for k in range(1, int(choices["depth"]) + 1):
            name, stride = f"layer_{k}", str(self.strides[0])
            connected = connected_layers(k, range(1, k), choices)
            layers.append(
                Layer(
                    filter=(int(choices[f"{name}_height"]), int(choices[f"{name}_width"])),
                    stride=(
                        int(choices.get(f"{name}_stride_height", stride)),
                        int(choices.get(f"{name}_stride_width", stride)),
                    ),
                    filters=int(choices[f"{name}_filters"]),
                    inputs=connected or (0,),
                )
            )
        return layers

    def meaning(self, option: str) -> str:
        return connection_meaning(option) or option

    # -- networks -----------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> ConnectedNetwork:
        """The layers and a classifier; never an auxiliary one."""
        no_auxiliary(self, auxiliary)
        return ConnectedNetwork(
            self.input_shape[0], self.chosen(architecture), classes_of(num_classes, self.num_classes)
        )

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Image, layers with an arrow from each input, classes with one from each loose end."""
        layers = self.chosen(architecture)
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node("layer_0", label="image")
        for k, layer in enumerate(layers, start=1):
            stride = "" if layer.stride == (1, 1) else f" /{shape_text(layer.stride)}"
            graph.add_node(f"layer_{k}", label=f"{k}: {shape_text(layer.filter)}{stride}\n{layer.filters} filters")
            graph.add_edges_from((f"layer_{j}", f"layer_{k}") for j in layer.inputs)
        graph.add_node("output", label="classes")
        graph.add_edges_from((f"layer_{k}", "output") for k in loose(layers))
        return graph

    # -- cost ---------------------------------------------------------------------------------------------------

    def operations(self) -> dict[str, Operation]:
        """List convolutions of one input at every size, the batch norm of their sum, and parts of the classifier.

        Widths of concatenations are too many to list. A convolution of several inputs is the sum of theirs; one with
        a stride counts as that without one at the size of the output, and one of upright images as that of images that
        lie. Filling up with zeros is free.
        """
        sizes = [(h, w) for h, w in product(_reachable(self.input_shape[1], self.strides), repeat=2) if h <= w]
        shapes = sorted({*product(self.heights, self.widths), *product(self.widths, self.heights)})
        inputs = (self.input_shape[0], *self.filters)
        made = dict(_convolution(*one) for one in product(inputs, self.filters, shapes, sizes))
        for filters, size in product(self.filters, sizes):
            made |= dict([_norm(filters, size), *(self._head(filters, size, last) for last in (False, True))])
        return made

    def cost_keys(self, architecture: Architecture) -> Keys:
        """For each layer its batch norm and a convolution an input; for each loose end its part of the classifier."""
        layers, keys = self.chosen(architecture), list[str]()
        channels = [self.input_shape[0], *(layer.filters for layer in layers)]
        sizes = output_sizes(layers, (self.input_shape[1], self.input_shape[2]))
        for layer, size in zip(layers, sizes[1:], strict=True):
            keys += [_convolution(channels[j], layer.filters, layer.filter, size)[0] for j in layer.inputs]
            keys.append(_norm(layer.filters, size)[0])
        ends = loose(layers)
        seen = largest(sizes[k] for k in ends)
        return (*keys, *(self._head(channels[k], seen, k == len(layers))[0] for k in ends))

    def _head(self, channels: int, size: Size, last: bool) -> tuple[str, Operation]:
        """The last layer is always a loose end; the biases are counted with it."""
        shape = (channels, *sorted(size))
        build = partial(classifier, channels, self.num_classes, bias=last)
        return f"{'head' if last else 'end'} {shape_text(shape)} -> {self.num_classes}", Operation(build, shape)


def _convolution(channels: int, filters: int, filter_size: Size, size: Size) -> tuple[str, Operation]:
    """Cost key and operation, without batch norm."""
    (h, fh), (w, fw) = sorted(zip(size, filter_size, strict=True))
    shape = (channels, h, w)
    build = partial(nn.Conv2d, channels, filters, (fh, fw), padding=(fh // 2, fw // 2), bias=False)
    return f"conv_{fh}x{fw} {shape_text(shape)} -> {filters}", Operation(build, shape)


def _norm(filters: int, size: Size) -> tuple[str, Operation]:
    """Cost key and operation."""
    shape = (filters, *sorted(size))
    return f"norm {shape_text(shape)}", Operation(lambda: nn.Sequential(nn.BatchNorm2d(filters), nn.ReLU()), shape)


def _reachable(size: int, strides: Sequence[int]) -> list[int]:
    """List the values that a height or width can take.

    >>> _reachable(32, (1, 2, 3))
    [1, 2, 3, 4, 6, 8, 11, 16, 32]
    """
    found, new = set[int](), {size}
    while new:
        found |= new
        new = {-(-size // stride) for size in new for stride in strides} - found
    return sorted(found)


def _texts(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(map(str, numbers))


def _check(name: str, numbers: Mapping[str, Sequence[int]]) -> None:
    for what, given in numbers.items():
        odd = what in ("heights", "widths")
        rising = all(a < b for a, b in pairwise(given))
        if not given or not rising or (odd and any(n % 2 == 0 for n in given)):
            legal = "odd numbers" if odd else "numbers"
            raise InputError(f"the space {name!r} needs increasing {legal} from 1 on, got {what}={list(given)}")
