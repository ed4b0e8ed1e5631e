"""Operations and cells of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv:2001.00326): ReLU before every convolution."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_nas.ops.blocks import Zero, relu_conv_bn
from lightning_nas.ops.fused_cells import can_fuse, mix_cell
from lightning_nas.ops.mixed import MixedOp

OPTIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the benchmark's order."""
EDGES = tuple((node, source) for node in range(1, 4) for source in range(node))
"""(node, source) in the benchmark's order: 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""


def operation(option: str, in_channels: int, out_channels: int, *, affine: bool = True) -> nn.Module:
    """A fresh operation of an edge; those without weights keep the number of channels."""
    if option == "none":
        return Zero()
    if option == "skip_connect":
        return nn.Identity()
    if option == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[option]
    return relu_conv_bn(in_channels, out_channels, kernel, affine=affine)


class Reduction(nn.Module):
    """The residual block between two stages: two 3x3 convolutions, the first strided, beside 2x2 mean and 1x1.

    Input (N, in_channels, H, W), output (N, out_channels, ceil(H/2), ceil(W/2)).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = relu_conv_bn(in_channels, out_channels, 3, stride=2)
        self.second = relu_conv_bn(out_channels, out_channels, 3)
        # ceil_mode, so that images of odd sizes end like the strided convolution
        self.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True)
        self.project = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)) + self.project(self.pool(x))
        return out


class Cell(nn.Module):
    """Six operations between four nodes: (N, C, H, W) in and out."""

    def __init__(self, edges: Sequence[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        return _output(x, lambda edge, source: self.edges[edge](source))


class MixedCell(nn.Module):
    """Six mixed operations between four nodes.

    With ``fused``, edges that leave one node are computed together where that can be: the same numbers, faster. One
    path is not: few of its edges have an operation in common.
    """

    def __init__(self, edges: Sequence[MixedOp], *, fused: bool = False) -> None:
        super().__init__()
        self.edges, self.fused = nn.ModuleList(edges), fused

    def forward(self, x: Tensor, rows: Tensor, active: Sequence[Sequence[int]]) -> Tensor:
        """Mix each edge by its row of gates."""
        if self.fused and min(map(len, active)) > 1 and can_fuse(self.edges):
            return mix_cell([x], EDGES, self.edges, rows, active, (1, 1, 1))[-1]
        return _output(x, lambda edge, source: self.edges[edge](source, rows[edge], active[edge]))


def _output(x: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The last node, each node being the sum of what ``run(edge, source)`` gives for its edges."""
    nodes = [x]
    for edge, (node, source) in enumerate(EDGES):
        y = run(edge, nodes[source])
        if node == len(nodes):
            nodes.append(y)
        else:
            nodes[node] = nodes[node] + y
    return nodes[-1]


class CellNetwork(nn.Module):
    """Stem, cells and reductions, head. Images (N, C, H, W) in, logits (N, num_classes) out."""

    def __init__(self, stem: nn.Module, cells: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.cells, self.head = stem, nn.ModuleList(cells), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # the faster layout on CPUs and GPUs
        for cell in self.cells:
            x = cell(x)
        logits: Tensor = self.head(x)
        return logits
