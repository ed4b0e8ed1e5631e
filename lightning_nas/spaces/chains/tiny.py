r"""A space so small that every network of it was trained: six layers of three operations, :math:`3^6 = 729` networks.

No paper has this space. Its operations and widths were chosen by a pilot, so that training seeds agree about the
networks and neither multiply-adds nor parameters rank them; see ``benchmarks/tiny/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import networkx as nx
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError, shown
from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.ops.mixed import Choice, Mix, MixedOp, plain
from lightning_nas.ranges import Width
from lightning_nas.spaces.base import Keys, Operation, Supernet, WeightSharingSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph, chosen_state
from lightning_nas.spaces.gates import Gates
from lightning_nas.spaces.sides import ImageSize, by, pair, size_of
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images

OPTIONS = ("conv_1x1", "depthwise_3x3", "avg_pool_3x3")
GROUP = "layers"
_LAYERS = 3  # of each of the two stages
_MEANINGS = {
    "conv_1x1": "ReLU, 1x1 convolution, batch norm",
    "conv_3x3": "ReLU, 3x3 convolution, batch norm",
    "depthwise_3x3": "ReLU, 3x3 depthwise convolution, batch norm",
    "depthwise_5x5": "ReLU, 5x5 depthwise convolution, batch norm",
    "mlp_1x1": "two 1x1 convolutions after ReLU, each with batch norm, with three times the channels between them",
    "avg_pool_3x3": "3x3 average pooling",
    "max_pool_3x3": "3x3 max pooling",
    "skip": "the identity",
}


class TinySpace(WeightSharingSpace):
    r"""Six layers that choose among three operations of equal shape: :math:`3^6 = 729` networks.

    A strided 3x3 convolution, three layers, a reduction (2x2 mean pooling and a 1x1 convolution to twice the channels),
    three layers, mean pooling, classifier. One decision a layer, ``layer_1`` to ``layer_6``. A depthwise convolution
    sees neighbours and mixes no channels, a 1x1 convolution mixes channels and sees no neighbours, and pooling sees
    neighbours for nothing: a good network needs both, at the right places.

    Networks and supernet take images (N, C, H, W) and give logits (N, num_classes), in channels-last memory. The
    supernet has one group of gates, "layers", with a row for each layer.

    Source: this library; no paper has this space. With the default sizes and operations, all networks are in the table
    that :class:`~lightning_nas.truth.tiny.TinyTable` reads.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``.
        image_size: height and width of the images, at least 4.
        in_channels: channels of the images.
        num_classes: width of the classifier.
        channels: channels of the first three layers; the last three have twice as many.
        operations: options of every layer, two or more; those of the pilot besides the three: 3x3 convolutions, 5x5
            depthwise ones, two 1x1 convolutions with three times the channels between them, max pooling, "skip".

    Raises:
        InputError: images below 4 pixels, or an unknown or repeated operation, or fewer than two.

    Example:
        >>> space = TinySpace()
        >>> space.input_shape, len(space.decisions), space.meaning("conv_1x1")
        ((1, 14, 14), 6, 'ReLU, 1x1 convolution, batch norm')
        >>> a = space.validate({f"layer_{i}": "depthwise_3x3" for i in range(1, 7)})
        >>> tuple(space.network(a)(torch.zeros(2, 1, 14, 14)).shape)
        (2, 10)
    """

    @sized_by_images(small={})
    def __init__(
        self,
        name: str = "tiny",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 14,
        in_channels: Width = 1,
        num_classes: PositiveInt = 10,
        channels: Width = 24,
        operations: Sequence[str] = OPTIONS,
    ) -> None:
        size = size_of(image_size)
        if size < 4:
            raise InputError(f"the space {name!r} needs images of at least 4 pixels, got {size}")
        self.name, self.input_shape, self.num_classes = name, (in_channels, *pair(size)), num_classes
        first = -(-size // 2)
        self.stages = ((channels, first), (2 * channels, -(-first // 2)))  # width, size
        self.mixed = _checked(operations)
        self.decisions = tuple(Decision(f"layer_{i}", self.mixed) for i in range(1, 2 * _LAYERS + 1))
        self.gate_shapes = {GROUP: (len(self.decisions), len(self.mixed))}
        self.gate_options = {GROUP: self.mixed}

    def meaning(self, option: str) -> str:
        return _MEANINGS.get(option, option)

    # -- networks -----------------------------------------------------------------------------------------------

    def _stem(self) -> nn.Module:
        width = self.stages[0][0]
        conv = nn.Conv2d(self.input_shape[0], width, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width))

    def _reduction(self) -> nn.Module:
        (narrow, _), (wide, _) = self.stages
        conv = nn.Conv2d(narrow, wide, 1, bias=False)
        return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), conv, nn.BatchNorm2d(wide))

    def _head(self, num_classes: int) -> nn.Module:
        pool = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*pool, nn.Linear(self.stages[1][0], num_classes))

    def _width(self, layer: int) -> int:
        return self.stages[layer // _LAYERS][0]

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> TinyNetwork:
        """Stem, the chosen layers with the reduction in their middle, mean pooling, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options
        layers = [operation(option, self._width(i)) for i, option in enumerate(chosen)]
        classes = classes_of(num_classes, self.num_classes)
        return TinyNetwork(self._stem(), layers, self._reduction(), self._head(classes))

    def supernet(self, mix: Mix | None = None) -> TinySupernet:
        """The network whose layers mix all operations."""

        def build(option: str, in_channels: int, out_channels: int) -> nn.Module:
            del out_channels  # the same
            return operation(option, in_channels)

        widths = [self._width(i) for i in range(len(self.decisions))]
        layers = [(mix or plain)(Choice(self.mixed, build, width, width)) for width in widths]
        return TinySupernet(self._stem(), layers, self._reduction(), self._head(self.num_classes))

    def gates(self, architecture: Architecture) -> Gates:
        """One-hot rows, one a layer."""
        return Gates.one_hot(
            {GROUP: [self.mixed.index(o) for o in self.validate(architecture).options]}, self.gate_shapes
        )

    def derive(self, probabilities: Mapping[str, Tensor]) -> Architecture:
        """Take the most probable operation of every layer."""
        best = probabilities[GROUP].argmax(-1).tolist()
        return Architecture(
            self.name, tuple((d.name, self.mixed[i]) for d, i in zip(self.decisions, best, strict=True))
        )

    def extract(self, supernet: Supernet, architecture: Architecture) -> TinyNetwork:
        """The chosen operations with a copy of the supernet's weights and batch-norm statistics."""
        network = self.network(architecture).to(next(supernet.parameters()))
        network.load_state_dict(chosen_state(supernet.state_dict(), "layers", architecture.options))
        return network

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain: input, stem, three layers, reduction, three layers, head."""
        (narrow, first), (wide, last) = self.stages
        shapes = (f"{narrow}x{by(first)}", f"{wide}x{by(last)}")
        layers = [(name, f"{o}\n{shapes[i // _LAYERS]}") for i, (name, o) in enumerate(architecture.choices)]
        before = [("input", "x".join(map(str, self.input_shape))), ("stem", f"conv 3x3\n{shapes[0]}")]
        reduction = ("reduction", f"pool, conv 1x1\n{shapes[1]}")
        head = ("head", f"pool\n{wide} -> {self.num_classes}")
        return chain_graph([*before, *layers[:_LAYERS], reduction, *layers[_LAYERS:], head])

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        (narrow, first), (wide, last) = self.stages
        images = "x".join(map(str, self.input_shape))
        return {
            f"stem {images} -> {narrow}": Operation(self._stem, self.input_shape),
            f"reduction {narrow}x{by(first)} -> {wide}": Operation(self._reduction, (narrow, *pair(first))),
            f"head {wide}x{by(last)} -> {self.num_classes}": Operation(
                partial(self._head, self.num_classes), (wide, *pair(last))
            ),
        }

    def _key(self, option: str, layer: int) -> str:
        width, size = self.stages[layer // _LAYERS]
        return f"{option} {width}x{by(size)}"

    def operations(self) -> dict[str, Operation]:
        """Stem, reduction, head, and every option in both shapes."""
        return self._fixed() | {
            self._key(option, layer): Operation(partial(operation, option, width), (width, *pair(size)))
            for layer, (width, size) in zip((0, _LAYERS), self.stages, strict=True)
            for option in self.mixed
        }

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and one option a layer."""
        chosen = enumerate(self.validate(architecture).options)
        return (*self._fixed(), *(self._key(option, i) for i, option in chosen))

    def gate_keys(self) -> tuple[Keys, dict[str, tuple[tuple[Keys, ...], ...]]]:
        """Stem, reduction and head are always run; each option adds itself."""
        rows = tuple(tuple((self._key(option, i),) for option in self.mixed) for i in range(len(self.decisions)))
        return tuple(self._fixed()), {GROUP: rows}


def operation(option: str, width: int) -> nn.Module:
    """Build an option for ``width`` channels; it keeps the shape."""
    if option == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    if option == "max_pool_3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    if option == "skip":
        return nn.Identity()
    if option == "mlp_1x1":
        return nn.Sequential(relu_conv_bn(width, 3 * width), relu_conv_bn(3 * width, width))
    kernel = int(option[-1])
    if option.startswith("conv"):
        return relu_conv_bn(width, width, kernel)
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(width))


def _checked(operations: Sequence[str]) -> tuple[str, ...]:
    """The operations, if they are known, each once, and leave a choice."""
    mixed = tuple(operations)
    if wrong := [o for o in mixed if o not in _MEANINGS or mixed.count(o) > 1]:
        told = "given twice" if wrong[0] in _MEANINGS else "unknown"
        raise InputError(f"operations: {shown(wrong[0])}, {told}; legal, each once: {', '.join(_MEANINGS)}")
    if len(mixed) < 2:
        raise InputError(f"operations leave nothing to choose: {shown(list(mixed))}; give two or more")
    return mixed


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
    """The network whose layers mix their options, in the channels-last memory format."""

    def __init__(self, stem: nn.Module, layers: Sequence[MixedOp], reduction: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers, self.reduction, self.head = stem, nn.ModuleList(layers), reduction, head
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, gates: Gates) -> Tensor:
        """Mix each layer's options by its row of ``gates``."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        mixed = zip(self.layers, gates.values[GROUP], gates.active[GROUP], strict=True)
        for i, (layer, row, active) in enumerate(mixed):
            x = layer(self.reduction(x) if i == _LAYERS else x, row, active)
        logits: Tensor = self.head(x)
        return logits
