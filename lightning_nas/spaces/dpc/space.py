"""The search space of dense prediction cells (Chen et al., NeurIPS 2018, arXiv:1809.04184).

A cell turns the features of a backbone into those that pixels are classified by. It has five branches; each is a 1x1
convolution, a 3x3 separable convolution with holes or a pyramid pooling, on the features or on an earlier branch, and
all are concatenated. Details of the operations are those of the authors' code (TensorFlow models, ``deeplab``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Annotated, ClassVar, Literal

import networkx as nx
from annotated_types import Interval
from pydantic import PositiveInt
from torch import nn

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import InputError
from lightning_nas.ops.blocks import conv_bn
from lightning_nas.ranges import Kernel, Nodes, Width
from lightning_nas.spaces.base import Keys, Operation, SearchSpace, no_auxiliary, shape_text
from lightning_nas.spaces.cell_graphs import CellGraph, cell_graph
from lightning_nas.spaces.dpc.networks import (
    FEATURES,
    Branch,
    DenseCell,
    SegmentationNetwork,
    backbone,
    features_of,
)
from lightning_nas.spaces.sides import ImageSize, pair, size_of
from lightning_nas.spaces.sizes import InputShape, classes_of, sized_by_images

_ASPP = (6, 12, 18)  # rates of DeepLab
_LEGAL = {"mobilenet_v2": (8, 16), "small": (1, 2, 4, 8)}  # output strides


class DPCSpace(SearchSpace):
    """Dense prediction cell: DPC (Chen et al., NeurIPS 2018, arXiv:1809.04184).

    ``branch_2_from`` is the input of branch 2, "features" or an earlier branch; branch 1 has the features.
    ``branch_2_op`` is its operation: "conv_1x1"; "atrous_6_21", a 3x3 depthwise convolution with 6 rows and 21 columns
    between its taps, and a 1x1 one; or "pool_2_4", the average over windows of a grid of 2 x 4, a 1x1 convolution and a
    resize back. With 8 rates and 4 grids these are 1 + 64 + 16 = 81, and the space has 5! x 81^5 = 418,414,128,120
    cells. It has no supernet.

    Networks are a backbone, the cell, a 1x1 projection and a 1x1 classifier. They take images (N, C, H, W) of any size
    and give logits (N, num_classes, h, w), which ``task=segmentation`` resizes.

    Source: section 3.1, figure 2; operations, sizes and rates from the authors' code. Deviations: there is no decoder;
    backbones are MobileNet-v2 (the paper's for the search) and a small one, not Xception-71.

    Args:
        name: name of the space, which its architectures carry.
        input_shape: (C, H, W) of the images, in place of ``image_size`` and ``in_channels``. Sizes that are not given
            then fit the images, see :mod:`lightning_nas.spaces.sizes`.
        image_size: height and width of the images, or both; costs are of this size.
        in_channels: channels of the images.
        num_classes: classes of a pixel.
        branches: of a cell.
        rates: rates of the convolutions with holes, increasing; at output stride 16 of "mobilenet_v2", doubled at 8.
        grids: sides of the pooling grids, increasing.
        channels: of each branch and of the projection.
        backbone: "mobilenet_v2", or "small": three convolutions.
        output_stride: pixels of an image for one of the features: 8 or 16 of "mobilenet_v2"; 1, 2, 4 or 8 of "small".
        dropout: share of the projection's values that training leaves out.

    Raises:
        InputError: another output stride, or rates or grids that do not increase.

    Example:
        >>> space = DPCSpace(input_shape=(1, 32, 32), num_classes=11)
        >>> space.name, len(space.decisions)
        ('dpc_small', 7)
        >>> import torch
        >>> cell = space.sample(torch.Generator().manual_seed(0))
        >>> tuple(space.network(cell)(torch.zeros(2, 1, 32, 32)).shape)
        (2, 11, 8, 8)
    """

    pixelwise: ClassVar[bool] = True

    @sized_by_images(
        small={
            "name": "dpc_small",
            "branches": 4,
            "rates": (1, 2, 4),
            "grids": (1, 2),
            "channels": 32,
            "backbone": "small",
            "output_stride": 4,
        },
    )
    def __init__(
        self,
        name: str = "dpc",
        *,
        input_shape: InputShape | None = None,
        image_size: ImageSize = 513,
        in_channels: Width = 3,
        num_classes: PositiveInt = 19,
        branches: Nodes = 5,
        rates: Sequence[Kernel] = (1, 3, 6, 9, 12, 15, 18, 21),
        grids: Sequence[Kernel] = (1, 2, 4, 8),
        channels: Width = 256,
        backbone: Literal["mobilenet_v2", "small"] = "mobilenet_v2",
        output_stride: PositiveInt = 16,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        for what, given in (("rates", rates), ("grids", grids)):
            if not given or list(given) != sorted(set(given)):
                raise InputError(f"the space {name!r} needs increasing {what} from 1 on, got {list(given)}")
        if output_stride not in _LEGAL[backbone]:
            legal = ", ".join(map(str, _LEGAL[backbone]))
            raise InputError(f"the space {name!r}: output_stride={output_stride} of {backbone}; legal: {legal}")
        height, width = pair(size_of(image_size))
        self.name, self.input_shape, self.num_classes = name, (in_channels, height, width), num_classes
        self.branches, self.rates, self.grids, self.channels = branches, tuple(rates), tuple(grids), channels
        self.backbone, self.output_stride, self.dropout = backbone, output_stride, dropout
        self.decisions = tuple(self._decisions())

    def _decisions(self) -> Iterator[Decision]:
        operations = (
            "conv_1x1",
            *(f"atrous_{rows}_{columns}" for rows, columns in product(self.rates, repeat=2)),
            *(f"pool_{rows}_{columns}" for rows, columns in product(self.grids, repeat=2)),
        )
        for number in range(1, self.branches + 1):
            node, earlier = f"branch_{number}", (FEATURES, *(f"branch_{other}" for other in range(1, number)))
            if number > 1:
                yield Decision(f"{node}_from", earlier, node, refers=earlier)
            yield Decision(f"{node}_op", operations, node)

    # -- architectures ------------------------------------------------------------------------------------------

    def chosen(self, architecture: Architecture) -> list[Branch]:
        """Read the branches of a cell."""
        choices = dict(self.validate(architecture).choices)
        return [
            Branch(choices[f"branch_{number}_op"], _number(choices.get(f"branch_{number}_from", FEATURES)))
            for number in range(1, self.branches + 1)
        ]

    def of_branches(self, branches: Sequence[Branch]) -> Architecture:
        """Write a cell as an architecture: the inverse of :meth:`chosen`.

        Raises:
            InvalidArchitecture: it is no cell of this space.
        """
        choices = dict[str, str]()
        for number, branch in enumerate(branches, start=1):
            if number > 1:
                choices[f"branch_{number}_from"] = f"branch_{branch.source}" if branch.source else FEATURES
            choices[f"branch_{number}_op"] = branch.operation
        return self.validate(choices)

    def aspp(self) -> Architecture:
        """DeepLab's atrous spatial pyramid pooling as a cell of this space: the baseline of the paper.

        All branches are on the features: a 1x1 convolution, separable convolutions with holes at the rates 6, 12 and 18
        (where the space has fewer rates or branches, at the largest), and global pooling.

        Raises:
            InputError: the space has fewer than three branches, or no grid of 1.
        """
        count = self.branches - 2
        rates = _ASPP if set(_ASPP) <= set(self.rates) and count == len(_ASPP) else self.rates[-count:]
        if not 1 <= count <= len(rates) or 1 not in self.grids:
            raise InputError(f"the space {self.name!r} has no pyramid of a 1x1 convolution, rates and global pooling")
        names = ["conv_1x1", *(f"atrous_{rate}_{rate}" for rate in rates), "pool_1_1"]
        return self.of_branches([Branch(operation, 0) for operation in names])

    def meaning(self, option: str) -> str:
        kind, _, rest = option.partition("_")
        numbers = " x ".join(rest.split("_"))
        if kind == "atrous":
            return f"3x3 separable convolution with rates {numbers}"
        if kind == "pool":
            return f"average pooling by a grid of {numbers}"
        if kind == "branch":
            return f"output of branch {rest}"
        return "1x1 convolution" if option == "conv_1x1" else option

    # -- networks -----------------------------------------------------------------------------------------------

    @property
    def features_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the features."""
        height, width = (-(-side // self.output_stride) for side in self.input_shape[1:])
        return features_of(self.backbone, self.channels), height, width

    @property
    def multiplier(self) -> int:
        """What rates are multiplied with: they are given for MobileNet-v2 at output stride 16."""
        return 16 // self.output_stride if self.backbone == "mobilenet_v2" else 1

    def cell(self, architecture: Architecture) -> DenseCell:
        """Build the cell alone, with fresh weights: (N, C, H, W) in, (N, branches * channels, H, W) out."""
        return DenseCell(self.chosen(architecture), self.features_shape[0], self.channels, self.multiplier)

    def network(
        self, architecture: Architecture, *, num_classes: int | None = None, auxiliary: bool = False
    ) -> SegmentationNetwork:
        """Backbone, cell, projection, classifier; no auxiliary one."""
        no_auxiliary(self, auxiliary)
        classifier = self._classifier(classes_of(num_classes, self.num_classes))
        return SegmentationNetwork(self._backbone(), self.cell(architecture), self._project(), classifier, self.dropout)

    def _backbone(self) -> nn.Module:
        return backbone(self.backbone, self.input_shape[0], self.channels, self.output_stride)

    def _project(self) -> nn.Module:
        return conv_bn(self.branches * self.channels, self.channels)

    def _classifier(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(self.channels, num_classes, 1)

    def graph(self, architecture: Architecture) -> nx.DiGraph[str]:
        """Image, features, branches with an arrow from their inputs, and classes of pixels."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_node("image", label="image")
        graph.add_node("branch_0", label=f"{self.backbone}\n/{self.output_stride}")
        graph.add_edge("image", "branch_0")
        for number, branch in enumerate(self.chosen(architecture), start=1):
            graph.add_node(f"branch_{number}", label=f"{number}: {branch.operation}")
            graph.add_edge(f"branch_{branch.source}", f"branch_{number}")
        graph.add_node("output", label="concatenation\nclasses of pixels")
        graph.add_edges_from((f"branch_{number}", "output") for number in range(1, self.branches + 1))
        return graph

    def cell_graphs(self, architecture: Architecture) -> dict[str, CellGraph]:
        """The cell: its branches as nodes, their operations as edges."""
        branches = self.chosen(architecture)
        names = {f"branch_{number}": str(number) for number in range(1, self.branches + 1)}
        edges = [(_node(branch.source), _node(i), branch.operation) for i, branch in enumerate(branches, start=1)]
        joined = [(name, "output", "") for name in names]
        return {"cell": cell_graph({FEATURES: FEATURES, **names, "output": "output"}, [*edges, *joined])}

    # -- cost ---------------------------------------------------------------------------------------------------

    def _fixed(self) -> dict[str, Operation]:
        """Backbone, projection, classifier."""
        shape = self.features_shape
        joined, projected = (self.branches * self.channels, *shape[1:]), (self.channels, *shape[1:])
        return {
            f"{self.backbone} {shape_text(self.input_shape)} /{self.output_stride}": Operation(
                self._backbone, self.input_shape
            ),
            f"project {shape_text(joined)} -> {self.channels}": Operation(self._project, joined),
            f"classify {shape_text(projected)} -> {self.num_classes}": Operation(
                partial(self._classifier, self.num_classes), projected
            ),
        }

    def operations(self) -> dict[str, Operation]:
        """Fixed parts, and every operation on the features and on a branch."""
        names, shape = self.decisions[0].options, self.features_shape
        made = self._fixed()
        for name, channels in product(names, dict.fromkeys((shape[0], self.channels))):
            build = partial(Branch(name, 0).build, channels, self.channels, self.multiplier)
            made[self._key(name, channels)] = Operation(build, (channels, *shape[1:]))
        return made

    def cost_keys(self, architecture: Architecture) -> Keys:
        """Fixed parts, and the operation of each branch."""
        of = (self.features_shape[0], self.channels)
        keys = (self._key(branch.operation, of[branch.source > 0]) for branch in self.chosen(architecture))
        return (*self._fixed(), *keys)

    def _key(self, operation: str, channels: int) -> str:
        return f"{operation} {shape_text((channels, *self.features_shape[1:]))} -> {self.channels}"


def _node(source: int) -> str:
    return f"branch_{source}" if source else FEATURES


def _number(name: str) -> int:
    return 0 if name == FEATURES else int(name.removeprefix("branch_"))
