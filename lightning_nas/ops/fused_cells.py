"""The fused form of the mixed edges of DARTS' and NAS-Bench-201's cells: numbers and state of ``ops/mixed.py``, faster.

All edges that leave one state are computed together. They share its ReLU and its pools; an option is one wide
convolution for all of them, with the gates as the scale of the last batch norm, so that the gates' gradient is the
batch norm's own; "none" is not computed. A dilated convolution works on every second pixel of every second row: with
stride 2 they are taken out before, with stride 1 the four sets of them become four times as many images.
``benchmarks/README.md`` has the measurements. Hooks on the modules inside an operation do not fire.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lightning_nas.ops.blocks import Zero
from lightning_nas.ops.cells import FactorizedReduction, SeparableConv
from lightning_nas.ops.convolutions import depthwise, grouped_pointwise, images, matrix
from lightning_nas.ops.norms import alike, normalise

Edges = tuple[int, ...]
Modules = Sequence[Any]


def can_fuse(edges: Iterable[nn.Module]) -> bool:
    """Return whether :func:`mix_cell` applies: all batch norms are alike.

    Edges share pools with batch norms only in training; in evaluation each has its own statistics.
    """
    modules = [(name, m) for edge in edges for name, m in edge.named_modules()]
    norms = [m for _, m in modules if isinstance(m, _NormBase)]
    if not alike(norms):
        return False
    shares = not any(name.endswith(".pool") for name, _ in modules)
    return shares or (norms[0].training and not norms[0].affine)


def mix_cell(
    inputs: Sequence[Tensor],
    arrows: Sequence[tuple[int, int]],
    edges: nn.ModuleList,
    rows: Tensor,
    active: Sequence[Sequence[int]],
    strides: Sequence[int],
) -> list[Tensor]:
    """Compute the nodes of a cell, each the sum of the mixed edges that lead to it.

    Args:
        inputs: first states of the cell.
        arrows: (target state, source state) of each edge.
        edges: mixed operations, all with the same options.
        rows: gates (edges, options).
        active: options to run, for each edge.
        strides: stride of the operations on each source state.
    """
    states = dict(enumerate(inputs))
    for state, stride in enumerate(strides):  # once all edges into a state are added up, those that leave it can run
        leaving = [e for e, (_, source) in enumerate(arrows) if source == state]
        taken = [active[e] for e in leaving]
        mixed = mix_leaving(states[state], [edges[e] for e in leaving], rows[leaving], taken, stride)
        for e, y in zip(leaving, mixed, strict=True):
            target = arrows[e][0]
            states[target] = states[target] + y if target in states else y
    return [states[target] for target in range(len(inputs), len(states))]


def mix_leaving(x: Tensor, edges: Modules, rows: Tensor, active: Sequence[Sequence[int]], stride: int) -> list[Tensor]:
    """Compute every mixed edge that leaves one state.

    Args:
        x: the state (N, C, H, W).
        edges: mixed operations on it, all with the same options.
        rows: gates (edges, options).
        active: options to run, for each edge.
        stride: stride of the operations.
    """
    relu, sums, rows = x.relu(), _Sums(), rows.to(x.dtype)
    dilated = _Dilated(relu, stride)
    shared: list[tuple[Tensor, int]] = []  # results that edges only weight, and their option
    for i, name in enumerate(edges[0].names):
        takers = tuple(e for e in range(len(edges)) if i in active[e])
        if not takers:
            continue
        options, scale = [edges[e][name] for e in takers], rows[list(takers), i]
        first: Any = options[0]
        if isinstance(first, nn.Identity):
            shared.append((x, i))
        elif isinstance(first, SeparableConv):
            dilated.add(takers, options, scale)
        elif isinstance(first, FactorizedReduction):
            sums.add(takers, _halved(relu, options, scale))
        elif isinstance(first, nn.AvgPool2d | nn.MaxPool2d):
            shared.append((first(x), i))
        elif hasattr(first, "pool"):
            shared.append((normalise(first.pool(x), [option.norm for option in options]), i))
        elif hasattr(first, "conv"):
            sums.add(takers, _convolved(relu, options, scale))
        elif not isinstance(first, Zero):
            sums.add(takers, _separable(relu, options, scale, stride))
    dilated.give(sums)
    parts = sums.of_edges()
    if shared:
        chosen = [i for _, i in shared]
        running = torch.tensor([[i in options for i in chosen] for options in active])
        weights = rows[:, chosen] if running.all() else rows[:, chosen].where(running.to(x.device), 0)
        for e, y in enumerate(_weighted([base for base, _ in shared], weights)):
            parts[e] = parts[e] + y if e in parts else y
    nothing = [] if len(parts) == len(edges) else [x.new_zeros(relu[..., ::stride, ::stride].shape)]
    return [parts[e] if e in parts else nothing[0] for e in range(len(edges))]


class _Sums:
    """Sums of wide tensors (N, edges * C, H, W), by their edges."""

    def __init__(self) -> None:
        self.wide: dict[Edges, Tensor] = {}

    def add(self, edges: Edges, y: Tensor) -> None:
        self.wide[edges] = self.wide[edges].add_(y) if edges in self.wide else y

    def of_edges(self) -> dict[int, Tensor]:
        """One sum an edge."""
        parts: dict[int, Tensor] = {}
        for edges, y in self.wide.items():
            for e, part in zip(edges, y.chunk(len(edges), 1), strict=True):
                parts[e] = parts[e] + part if e in parts else part
        return parts


class _Dilated:
    """The dilated options of one state, added up while the input's pixels are taken apart."""

    def __init__(self, x: Tensor, stride: int) -> None:
        self.x, self.stride, self.sums = x, stride, _Sums()
        height, width = x.shape[2:]
        self.splits = stride == 1 and height % 2 == 0 and width % 2 == 0
        self.ready = False

    def add(self, edges: Edges, options: Modules, scale: Tensor) -> None:
        if not self.ready:
            self.ready = True
            if self.stride == 2:
                self.x = self.x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
            elif self.splits:
                self.x = _apart(self.x)
        dilation = 1 if self.splits or self.stride == 2 else 2
        y = _depth_and_point(self.x, options, dilation=dilation)
        self.sums.add(edges, normalise(y, [option.norm for option in options], scale))

    def give(self, sums: _Sums) -> None:
        for edges, y in self.sums.wide.items():
            sums.add(edges, _together(y) if self.splits else y)


def _convolved(relu: Tensor, options: Modules, scale: Tensor) -> Tensor:
    weight = torch.cat([option.conv.weight for option in options])
    if weight.shape[-1] == 1:
        y = images(matrix(relu) @ weight.flatten(1).t(), len(relu), *relu.shape[2:])
    else:
        y = F.conv2d(relu, weight, padding=weight.shape[-1] // 2)
    return normalise(y, [option.norm for option in options], scale)


def _separable(relu: Tensor, options: Modules, scale: Tensor, stride: int) -> Tensor:
    firsts, seconds = ([option[half] for option in options] for half in (0, 1))
    y = normalise(_depth_and_point(relu, firsts, stride), [first.norm for first in firsts]).relu_()
    return normalise(_depth_and_point(y, seconds), [second.norm for second in seconds], scale)


def _depth_and_point(x: Tensor, options: Modules, stride: int = 1, dilation: int = 1) -> Tensor:
    """``x`` has the channels of one option, or of all."""
    if x.shape[1] == options[0].norm.num_features:
        x = torch.cat([x] * len(options), 1)
    y = depthwise(x, torch.cat([option.depthwise.weight for option in options]), stride, dilation)
    return grouped_pointwise(y, torch.stack([option.pointwise.weight.flatten(1) for option in options]))


def _halved(relu: Tensor, options: Modules, scale: Tensor) -> Tensor:
    height, width = relu.shape[2:]
    moved = F.pad(relu, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
    halves = [
        matrix(x[:, :, ::2, ::2]) @ torch.cat([getattr(option, name).weight.flatten(1) for option in options]).t()
        for name, x in (("even", relu), ("odd", moved))
    ]
    y = torch.stack([half.view(len(half), len(options), -1) for half in halves], 2).flatten(1)
    shape = len(relu), -(-height // 2), -(-width // 2)
    return normalise(images(y, *shape), [option.norm for option in options], scale)


def _weighted(bases: list[Tensor], weights: Tensor) -> tuple[Tensor, ...]:
    """Compute the weighted sum of the bases (N, C, H, W) for each row of ``weights``."""
    pixels = torch.stack([base.permute(0, 2, 3, 1) for base in bases])
    return (weights @ pixels.flatten(1)).view(-1, *pixels.shape[1:]).permute(0, 1, 4, 2, 3).unbind()


def _apart(x: Tensor) -> Tensor:
    """(N, C, H, W) as (4 N, C, H / 2, W / 2): each image's pixels of even and odd rows and columns."""
    n, c, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, c).permute(2, 4, 0, 1, 3, 5)
    return pixels.reshape(4 * n, height // 2, width // 2, c).permute(0, 3, 1, 2)


def _together(x: Tensor) -> Tensor:
    """The inverse of :func:`_apart`."""
    n, c, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(2, 2, n // 4, height, width, c).permute(2, 3, 0, 4, 1, 5)
    return pixels.reshape(n // 4, 2 * height, 2 * width, c).permute(0, 3, 1, 2)
