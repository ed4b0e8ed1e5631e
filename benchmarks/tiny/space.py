r"""A space so small that every network of it can be trained on two cores; its operations and widths are for a pilot.

Six layers with a few options each: :math:`3^6 = 729` networks with three operations. No paper has this space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import networkx as nx
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.mixed import Choice, Mix, plain
from lightning_nas.ranges import Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph, chosen_state
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import ImageSize, by, pair, size_of
from lightning_nas.spaces.sizes import classes_of

GROUP = "layers"
_KERNELS = {"conv_1x1": 1, "conv_3x3": 3, "depthwise_3x3": 3, "depthwise_5x5": 5}
_POOLS = {
    "avg_pool_3x3": partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False),
    "max_pool_3x3": partial(nn.MaxPool2d, 3, stride=1, padding=1),
}
OPERATIONS = (*_KERNELS, "mlp_1x1", *_POOLS, "skip")
_STAGES, _LAYERS = 2, 3  # layers of each stage


class TinySpace(WeightSharingSpace):
    r"""Six layers that choose among a few operations of equal shape.

    A strided 3x3 convolution, three layers, a reduction (2x2 mean pooling and a 1x1 convolution to twice the channels),
    three layers, mean pooling, classifier. Convolutions stand after ReLU and before batch norm; ``mlp_1x1`` is two 1x1
    convolutions with three times the channels between them.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes). Gates are one group, "layers".

    Args:
        options: of each layer, from ``OPERATIONS``.
        name: name of the space, which its architectures carry.
        image_size: height and width of the images, at least 4.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        channels: channels of the first three layers; the last three have twice as many.

    Raises:
        InputError: images below 4 pixels.
    """

    def __init__(
        self,
        options: Sequence[str],
        name: str = "tiny",
        *,
        image_size: ImageSize = 14,
        in_channels: Width = 1,
        num_classes: PositiveInt = 10,
        channels: Width = 24,
    ) -> None:
        size = size_of(image_size)
        if size < 4:
            raise InputError(f"the space {name!r} needs images of at least 4 pixels, got {size}")
        self.choices = tuple(options)
        self.name, self.input_shape, self.num_classes = name, (in_channels, *pair(size)), num_classes
        first = -(-size // 2)
        self.stages = ((channels, first), (2 * channels, -(-first // 2)))  # width, size
        self.decisions = tuple(Decision(f"layer_{i}", self.choices) for i in range(1, _STAGES * _LAYERS + 1))
        self.gate_shapes = {GROUP: (len(self.decisions), len(self.choices))}
        self.gate_options = {GROUP: self.choices}

    def every(self) -> list[Architecture]:
        """All architectures; the options of the last layer change first."""
        names = [decision.name for decision in self.decisions]
        chosen = itertools.product(self.choices, repeat=len(names))
        return [Architecture(self.name, tuple(zip(names, options, strict=True))) for options in chosen]

    # -- networks -----------------------------------------------------------------------------------------------

    def _stem(self) -> nn.Module:
        channels = self.stages[0][0]
        conv = nn.Conv2d(self.input_shape[0], channels, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels))

    def _reduction(self) -> nn.Module:
        (narrow, _), (wide, _) = self.stages
        conv = nn.Conv2d(narrow, wide, 1, bias=False)
        return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), conv, nn.BatchNorm2d(wide))

    def _head(self, num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.stages[-1][0], num_classes)
        )

    def _layers(self, layer: Callable[[int, int], nn.Module]) -> list[nn.Module]:
        """``layer(number, width)`` for each layer."""
        return [layer(i, self.stages[i // _LAYERS][0]) for i in range(len(self.decisions))]

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> TinyNetwork:
        """Stem, the chosen layers with the reduction in their middle, mean pooling, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options
        layers = self._layers(lambda i, width: _operation(chosen[i], width, width))
        return TinyNetwork(
            self._stem(), layers, self._reduction(), self._head(classes_of(num_classes, self.num_classes))
        )

    def supernet(self, mix: Mix | None = None) -> TinySupernet:
        """Every layer mixes its three options."""
        made = mix or plain
        layers = self._layers(lambda _, width: made(Choice(self.choices, _operation, width, width)))
        return TinySupernet(self._stem(), layers, self._reduction(), self._head(self.num_classes))

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one a layer."""
        return Gates.one_hot(
            {GROUP: [self.choices.index(o) for o in self.validate(architecture).options]}, self.gate_shapes
        )

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """The most probable option of every layer."""
        best = probabilities[GROUP].argmax(-1).tolist()
        return Architecture(
            self.name, tuple((d.name, self.choices[i]) for d, i in zip(self.decisions, best, strict=True))
        )

    def extract(self, supernet: Supernet, architecture: Architecture) -> TinyNetwork:
        """The chosen layers with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        network.load_state_dict(chosen_state(supernet.state_dict(), "layers", architecture.options))
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, the layers with the reduction in their middle, head."""
        (narrow, first), (wide, last) = self.stages
        names = [(name, f"{option}\n{self._shape(i)}") for i, (name, option) in enumerate(architecture.choices)]
        return chain_graph(
            [
                ("input", "x".join(map(str, self.input_shape))),
                ("stem", f"conv 3x3\n{narrow}x{by(first)}"),
                *names[:_LAYERS],
                ("reduction", f"mean 2x2, conv 1x1\n{wide}x{by(last)}"),
                *names[_LAYERS:],
                ("head", f"pool\n{wide} -> {self.num_classes}"),
            ]
        )

    # -- cost ---------------------------------------------------------------------------------------------------

    def _shape(self, layer: int) -> str:
        width, size = self.stages[layer // _LAYERS]
        return f"{width}x{by(size)}"

    def _fixed(self) -> dict[str, Operation]:
        (narrow, first), (wide, last) = self.stages
        return {
            f"stem {'x'.join(map(str, self.input_shape))} -> {narrow}": Operation(self._stem, self.input_shape),
            f"reduction {narrow}x{by(first)} -> {wide}": Operation(self._reduction, (narrow, *pair(first))),
            f"head {wide}x{by(last)} -> {self.num_classes}": Operation(
                lambda: self._head(self.num_classes), (wide, *pair(last))
            ),
        }

    def operations(self) -> dict[str, Operation]:
        """Stem, reduction, head, and every option in both shapes."""
        return self._fixed() | {
            f"{option} {width}x{by(size)}": Operation(partial(_operation, option, width, width), (width, *pair(size)))
            for width, size in self.stages
            for option in self.choices
        }

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and one option a layer."""
        chosen = self.validate(architecture).options
        return (*self._fixed(), *(f"{option} {self._shape(i)}" for i, option in enumerate(chosen)))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Fixed parts are always run; each option adds itself."""
        layers = range(len(self.decisions))
        rows = tuple(tuple((f"{option} {self._shape(i)}",) for option in self.choices) for i in layers)
        return tuple(self._fixed()), {GROUP: rows}


def _operation(option: str, in_channels: int, out_channels: int) -> nn.Module:
    if option in _POOLS:
        return _POOLS[option]()
    if option == "skip":
        return nn.Identity()
    if option == "mlp_1x1":
        inner = 3 * in_channels
        return nn.Sequential(relu_conv_bn(in_channels, inner), relu_conv_bn(inner, out_channels))
    if option.startswith("conv"):
        return relu_conv_bn(in_channels, out_channels, _KERNELS[option])
    kernel = _KERNELS[option]
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(out_channels))


class TinyNetwork(nn.Module):
    """Stem, layers, reduction, layers, head: images (N, C, H, W) to logits (N, num_classes), channels-last."""

    def __init__(self, stem: nn.Module, layers: Sequence[nn.Module], reduction: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers, self.reduction, self.head = stem, nn.ModuleList(layers), reduction, head
        self.to(memory_format=torch.channels_last)  # as the images; a training step takes half the time on a CPU

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for i, layer in enumerate(self.layers):
            x = layer(self.reduction(x) if i == _LAYERS else x)
        logits: Tensor = self.head(x)
        return logits


class TinySupernet(Supernet):
    """The same with layers that mix their options."""

    def __init__(self, stem: nn.Module, layers: Sequence[nn.Module], reduction: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers, self.reduction, self.head = stem, nn.ModuleList(layers), reduction, head
        self.to(memory_format=torch.channels_last)  # as the images; a training step takes half the time on a CPU

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each layer's options by its row of ``gates``."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        rows = zip(self.layers, gates.values[GROUP], gates.active[GROUP], strict=True)
        for i, (layer, row, active) in enumerate(rows):
            x = layer(self.reduction(x) if i == _LAYERS else x, row, active)
        logits: Tensor = self.head(x)
        return logits
