"""Fused forms of mixed operations: the same numbers and the same state as ``ops/mixed.py``, faster.

Blocks of one kernel size run side by side as one wide block, which saves dispatch; the gates are folded into the last
batch norm, which saves passes over memory; and depthwise convolutions avoid slow paths of the CPU's library.
``benchmarks/README.md`` has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_nas.ops.blocks import InvertedResidual, MBConv, Zero
from lightning_nas.ops.convolutions import depthwise, images, matrix
from lightning_nas.ops.mixed import Choice, MixedOp
from lightning_nas.ops.norms import alike, normalise, shuffled

CPU_LIMIT = 2**20
"""Elements of a hidden tensor up to which blocks share it on a CPU; wider ones leave the cache and cost more."""

Block = InvertedResidual | MBConv


class FusedMixedBlock(MixedOp):
    """:class:`MixedOp` that runs its active blocks (:class:`InvertedResidual`, :class:`MBConv`) together.

    Outputs, gradients and running statistics equal those of :class:`MixedOp` up to rounding; the state is the same.
    Options of another kind are added one by one. With no block, or batch norms that are not alike (synchronised, partly
    frozen, cumulative), the plain form runs. Hooks on the modules inside a block do not fire.

    Example:
        >>> mixed = FusedMixedBlock({f"k{k}": InvertedResidual(8, 8, kernel=k, expansion=3) for k in (3, 5)})
        >>> tuple(mixed(torch.zeros(2, 8, 6, 6), torch.tensor([0.3, 0.7]), active=(0, 1)).shape)
        (2, 8, 6, 6)
    """

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        options = {i: self[self.names[i]] for i in active}
        blocks = {i: cast("Block", option) for i, option in options.items() if _is_block(option)}
        if not blocks or not _alike(list(blocks.values())):
            return super().forward(x, gates, active)
        gate = gates.unbind()
        mixed = _mix_blocks(x, blocks, gate)
        multiples = []  # residual blocks and identities add multiples of x: one multiplication serves them all
        for i, option in options.items():
            if isinstance(option, nn.Identity) or (i in blocks and blocks[i].residual):
                multiples.append(gate[i])
            elif i not in blocks and not isinstance(option, Zero):
                mixed = mixed + gate[i].to(x.dtype) * option(x)
        return mixed + torch.stack(multiples).sum().to(x.dtype) * x if multiples else mixed


def fused(choice: Choice) -> FusedMixedBlock:
    """Make the fused form of a choice."""
    return FusedMixedBlock(choice.operations())


def _mix_blocks(x: Tensor, blocks: dict[int, Block], gate: Sequence[Tensor]) -> Tensor:
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
    scale = torch.stack([gate[i] for i in order])
    size = hidden.shape[2:]
    if len(order) == 1:
        return normalise(images(outputs[0], n, *size), norms, scale)
    y = normalise(images(torch.cat(outputs, 1), n, *size), norms, scale)
    return images(matrix(y).view(-1, len(order), channels).sum(1), n, *size)


def _hidden(x: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Compute the inputs of the projections of ``blocks``, side by side."""
    groups = [_conv(block.expand).groups for block in blocks]
    weight = torch.cat([shuffled(_dense(block.expand), g) for block, g in zip(blocks, groups, strict=True)])
    h = images(matrix(x) @ weight.t(), len(x), *x.shape[2:])
    activate = F.relu_ if type(blocks[0]) is InvertedResidual else _Relu6.apply
    h = activate(normalise(h, [_norm(block.expand) for block in blocks], groups=groups))
    h = depthwise(
        h, torch.cat([_conv(block.depthwise).weight for block in blocks]), _conv(blocks[0].depthwise).stride[0]
    )
    return cast("Tensor", activate(normalise(h, [_norm(block.depthwise) for block in blocks])))


def _is_block(option: nn.Module) -> bool:
    return type(option) in (InvertedResidual, MBConv) and isinstance(option.expand, nn.Sequential)


def _alike(blocks: Sequence[Block]) -> bool:
    """Whether one batch norm can stand for several of theirs."""
    kinds = {type(block) for block in blocks}
    return len(kinds) == 1 and alike(
        _norm(s) for block in blocks for s in (block.expand, block.depthwise, block.project)
    )


def _chunks(blocks: dict[int, Block], positions: int, limit: float) -> list[list[int]]:
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


def _conv(stage: nn.Module) -> nn.Conv2d:
    return cast("nn.Conv2d", stage.get_submodule("conv"))


class _Relu6(torch.autograd.Function):
    """ReLU6 in place. PyTorch's keeps its input for the backward pass, where the result is enough."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(x.clamp_(0, 6))
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return cast("Tensor", torch.ops.aten.hardtanh_backward(grad, *ctx.saved_tensors, 0.0, 6.0))


def _norm(stage: nn.Module) -> nn.BatchNorm2d:
    return cast("nn.BatchNorm2d", stage.get_submodule("norm"))


def _dense(stage: nn.Module) -> Tensor:
    """The matrix (out, in) of a 1x1 convolution, zero between its groups."""
    conv = _conv(stage)
    weight = conv.weight.flatten(1)
    return weight if conv.groups == 1 else torch.block_diag(*weight.chunk(conv.groups))  # type: ignore[no-untyped-call]
