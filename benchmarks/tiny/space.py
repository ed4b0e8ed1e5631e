"""A space so small that every network of it can be trained on two cores; its operations and widths are for a pilot.

No paper has this space. It has no supernet yet: the pilot trains its networks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import networkx as nx
import torch
from torch import Tensor, nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.ops.blocks import relu_conv_bn
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary
from lightning_nas.spaces.chain import chain_graph
from lightning_nas.spaces.sizes import classes_of

_KERNELS = {"conv_1x1": 1, "conv_3x3": 3, "depthwise_3x3": 3, "depthwise_5x5": 5}
_POOLS = {
    "avg_pool_3x3": partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False),
    "max_pool_3x3": partial(nn.MaxPool2d, 3, stride=1, padding=1),
}
OPERATIONS = (*_KERNELS, "mlp_1x1", *_POOLS, "skip")
_LAYERS = 3  # of each of the two stages
_SIZES = (7, 4)  # of images in each, of 14 pixels at first


class TinySpace(SearchSpace):
    r"""Six layers that choose among a few operations of equal shape: :math:`3^6 = 729` networks of three operations.

    A strided 3x3 convolution, three layers, a reduction (2x2 mean pooling and a 1x1 convolution to twice the channels),
    three layers, mean pooling, classifier. Convolutions stand after ReLU and before batch norm; ``mlp_1x1`` is two 1x1
    convolutions with three times the channels between them.

    Networks take images (N, 1, 14, 14) and give logits (N, 10).

    Args:
        options: of each layer, from ``OPERATIONS``.
        channels: channels of the first three layers; the last three have twice as many.
    """

    def __init__(self, options: Sequence[str], *, channels: int) -> None:
        self.name, self.input_shape, self.num_classes = "tiny", (1, 14, 14), 10
        self.widths = (channels, 2 * channels)
        self.decisions = tuple(Decision(f"layer_{i}", tuple(options)) for i in range(1, 2 * _LAYERS + 1))

    def _stem(self) -> nn.Module:
        conv = nn.Conv2d(1, self.widths[0], 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(self.widths[0]))

    def _reduction(self) -> nn.Module:
        narrow, wide = self.widths
        conv = nn.Conv2d(narrow, wide, 1, bias=False)
        return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), conv, nn.BatchNorm2d(wide))

    def _head(self, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.widths[1], num_classes))

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> TinyNetwork:
        """Stem, the chosen layers with the reduction in their middle, mean pooling, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        chosen = self.validate(architecture).options
        layers = [_operation(option, self.widths[i // _LAYERS]) for i, option in enumerate(chosen)]
        classes = classes_of(num_classes, self.num_classes)
        return TinyNetwork(self._stem(), layers, self._reduction(), self._head(classes))

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """A chain of the layers."""
        return chain_graph(architecture.choices)

    def operations(self) -> dict[str, Operation]:
        """Stem, reduction, head, and every option in both shapes."""
        (narrow, first), (wide, last) = zip(self.widths, _SIZES, strict=True)
        fixed = {
            "stem": Operation(self._stem, self.input_shape),
            "reduction": Operation(self._reduction, (narrow, first, first)),
            "head": Operation(partial(self._head, self.num_classes), (wide, last, last)),
        }
        return fixed | {
            f"{option} {width}": Operation(partial(_operation, option, width), (width, size, size))
            for width, size in zip(self.widths, _SIZES, strict=True)
            for option in self.decisions[0].options
        }

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and one option a layer."""
        chosen = enumerate(self.validate(architecture).options)
        return ("stem", "reduction", "head", *(f"{option} {self.widths[i // _LAYERS]}" for i, option in chosen))


def _operation(option: str, width: int) -> nn.Module:
    if option in _POOLS:
        return _POOLS[option]()
    if option == "skip":
        return nn.Identity()
    if option == "mlp_1x1":
        return nn.Sequential(relu_conv_bn(width, 3 * width), relu_conv_bn(3 * width, width))
    kernel = _KERNELS[option]
    if option.startswith("conv"):
        return relu_conv_bn(width, width, kernel)
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(width))


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
