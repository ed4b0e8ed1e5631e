"""Fused forms of mixed operations: the same numbers and the same state as ``ops/mixed.py``, faster.

Blocks of one kernel size run side by side as one wide block, which saves dispatch; the gates are folded into the last
batch norm, which saves passes over memory; and depthwise convolutions avoid slow paths of the CPU's library.
``benchmarks/README.md`` has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.ops.blocks import InvertedResidual
from lightning_nas.ops.convolutions import depthwise, images, matrix
from lightning_nas.ops.mixed import Choice, MixedOp

CPU_LIMIT = 2**20
"""Elements of a hidden tensor up to which blocks share it on a CPU; wider ones leave the cache and cost more."""


class FusedMixedBlock(MixedOp):
    """:class:`MixedOp` that runs its active :class:`InvertedResidual` blocks together.

    Outputs, gradients and running statistics equal those of :class:`MixedOp` up to rounding; the state is the same.
    Options of another kind are added one by one. With fewer than two blocks, or batch norms that are not alike
    (synchronised, partly frozen, cumulative), the plain form runs. Hooks on the modules inside a block do not fire.

    Example:
        >>> mixed = FusedMixedBlock({f"k{k}": InvertedResidual(8, 8, kernel=k, expansion=3) for k in (3, 5)})
        >>> tuple(mixed(torch.zeros(2, 8, 6, 6), torch.tensor([0.3, 0.7]), active=(0, 1)).shape)
        (2, 8, 6, 6)
    """

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        options = {i: self[self.names[i]] for i in active}
        blocks = {i: option for i, option in options.items() if type(option) is InvertedResidual}
        if len(blocks) < 2 or not _alike(blocks.values()):
            return super().forward(x, gates, active)
        gate = gates.unbind()
        mixed = _mix_blocks(x, blocks, gate)
        multiples = []  # residual blocks and identities add multiples of x: one multiplication serves them all
        for i, option in options.items():
            if isinstance(option, nn.Identity) or (i in blocks and blocks[i].residual):
                multiples.append(gate[i])
            elif i not in blocks:
                mixed = mixed + gate[i].to(x.dtype) * option(x)
        return mixed + torch.stack(multiples).sum().to(x.dtype) * x if multiples else mixed


def fused(choice: Choice) -> FusedMixedBlock:
    """The fused form of a choice."""
    return FusedMixedBlock(choice.operations())


def _mix_blocks(x: Tensor, blocks: dict[int, InvertedResidual], gate: Sequence[Tensor]) -> Tensor:
    """The gated sum of the blocks, without the input that residual blocks add."""
    n, _, height, width = x.shape
    order: list[int] = []
    outputs: list[Tensor] = []
    for chunk in _chunks(blocks, n * height * width, CPU_LIMIT if x.device.type == "cpu" else math.inf):
        projections = [_dense(blocks[i].project) for i in chunk]
        hidden = _hidden(x, [blocks[i] for i in chunk])
        pieces = matrix(hidden).split_with_sizes([weight.shape[1] for weight in projections], 1)
        outputs += [piece @ weight.t() for piece, weight in zip(pieces, projections, strict=True)]
        order += chunk
    channels, norms = outputs[0].shape[1], [_norm(blocks[i].project) for i in order]
    scale = torch.stack([gate[i] for i in order]).to(norms[0].weight.dtype).repeat_interleave(channels)
    y = _batch_norm(images(torch.cat(outputs, 1), n, *hidden.shape[2:]), norms, scale=scale)
    return images(matrix(y).view(-1, len(order), channels).sum(1), n, *hidden.shape[2:])


def _hidden(x: Tensor, blocks: Sequence[InvertedResidual]) -> Tensor:
    """What the projections of ``blocks`` are fed, side by side."""
    groups = [_conv(block.expand).groups for block in blocks]
    weight = torch.cat([_shuffled(_dense(block.expand), g) for block, g in zip(blocks, groups, strict=True)])
    h = images(matrix(x) @ weight.t(), len(x), *x.shape[2:])
    h = F.relu_(_batch_norm(h, [_norm(block.expand) for block in blocks], groups))
    h = depthwise(
        h, torch.cat([_conv(block.depthwise).weight for block in blocks]), _conv(blocks[0].depthwise).stride[0]
    )
    return F.relu_(_batch_norm(h, [_norm(block.depthwise) for block in blocks]))


def _batch_norm(x: Tensor, norms: list[nn.BatchNorm2d], groups: Sequence[int] = (), scale: Tensor | int = 1) -> Tensor:
    """The norms side by side: norm i on channels shuffled by ``groups[i]``, the results multiplied by ``scale``."""
    first, groups = norms[0], groups or (1,) * len(norms)
    weight, bias, mean, var = (
        torch.cat([_shuffled(getattr(norm, name), g) for norm, g in zip(norms, groups, strict=True)])
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    weight, bias, training = weight * scale, bias * scale, first.training
    y = F.batch_norm(x, mean, var, weight, bias, training, cast("float", first.momentum), first.eps)
    if training:  # give the updated statistics back to the norms that own them
        sizes = [norm.num_features for norm in norms]
        own = [getattr(norm, name) for name in ("running_mean", "running_var") for norm in norms]
        new = zip(mean.split_with_sizes(sizes) + var.split_with_sizes(sizes), [*groups, *groups], strict=True)
        # shuffling g groups of c is undone by shuffling c groups of g
        torch._foreach_copy_(own, [v if g == 1 else _shuffled(v, len(v) // g) for v, g in new])
        torch._foreach_add_([cast("Tensor", norm.num_batches_tracked) for norm in norms], 1)
    return y


def _alike(blocks: Iterable[InvertedResidual]) -> bool:
    """Whether one batch norm can stand for several of theirs."""
    norms = [_norm(stage) for block in blocks for stage in (block.expand, block.depthwise, block.project)]
    kinds = {(type(n), n.training, n.momentum, n.eps, n.track_running_stats) for n in norms}
    kind, _, momentum, _, tracking = next(iter(kinds))
    return len(kinds) == 1 and kind is nn.BatchNorm2d and momentum is not None and tracking


def _chunks(blocks: dict[int, InvertedResidual], positions: int, limit: float) -> list[list[int]]:
    """Blocks of one kernel size, as many together as ``limit`` elements of a hidden tensor allow."""
    chunks: list[list[int]] = []
    room: dict[int, float] = {}
    for i, block in sorted(blocks.items(), key=lambda item: _conv(item[1].depthwise).kernel_size):
        kernel, size = _conv(block.depthwise).kernel_size[0], positions * _conv(block.depthwise).in_channels
        if room.get(kernel, -1) < size:
            chunks.append([])
            room[kernel] = limit
        chunks[-1].append(i)
        room[kernel] -= size
    return chunks


def _conv(stage: nn.Sequential) -> nn.Conv2d:
    return cast("nn.Conv2d", stage.conv)


def _norm(stage: nn.Sequential) -> nn.BatchNorm2d:
    return cast("nn.BatchNorm2d", stage.norm)


def _dense(stage: nn.Sequential) -> Tensor:
    """The matrix (out, in) of a 1x1 convolution, zero between its groups."""
    conv = _conv(stage)
    weight = conv.weight.flatten(1)
    return weight if conv.groups == 1 else torch.block_diag(*weight.chunk(conv.groups))  # type: ignore[no-untyped-call]


def _shuffled(rows: Tensor, groups: int) -> Tensor:
    """Rows in the order into which :class:`ChannelShuffle` brings channels."""
    return rows if groups == 1 else rows.reshape(groups, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
