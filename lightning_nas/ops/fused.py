"""Fused forms of mixed operations: the same numbers and the same state as ``ops/mixed.py``, faster.

Three things make them so. Blocks that differ only in width run side by side as one wide block, which saves dispatch.
The gates are folded into the last batch norm, which saves passes over memory. And the gradient of 5x5 depthwise
weights avoids a slow path of the CPU's convolution library.

Shapes: a *matrix* is (N * H * W, C), a view of channels-last images (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_nas.ops.blocks import InvertedResidual
from lightning_nas.ops.mixed import MixedOp

CPU_LIMIT = 2**20
"""Elements of a hidden tensor up to which blocks share it on a CPU: wider ones leave the cache and cost more."""


class FusedMixedBlock(MixedOp):
    """:class:`MixedOp` that runs its active :class:`InvertedResidual` blocks together.

    Outputs, gradients and running statistics equal those of :class:`MixedOp` up to rounding, and so does the state.
    Options of another kind are added one by one. With fewer than two blocks, or batch norms that are not alike
    (synchronised, partly frozen, cumulative), the plain form runs. Gradients of gradients are not available, and hooks
    on the modules inside a block do not fire.

    Example:
        >>> from lightning_nas.ops.blocks import InvertedResidual
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
        # every identity adds a multiple of x: one multiplication serves them all
        identities = [i for i, option in options.items() if isinstance(option, nn.Identity) or _adds_input(option)]
        if identities:
            mixed = mixed + torch.stack([gate[i] for i in identities]).sum().to(x.dtype) * x
        for i, option in options.items():
            if i not in blocks and i not in identities:
                mixed = mixed + gate[i].to(x.dtype) * option(x)
        return mixed


def _mix_blocks(x: Tensor, blocks: dict[int, InvertedResidual], gate: Sequence[Tensor]) -> Tensor:
    """The gated sum of the blocks, without what they add of their input."""
    n, _, height, width = x.shape
    limit = CPU_LIMIT if x.device.type == "cpu" else math.inf
    order: list[int] = []
    outputs: list[Tensor] = []
    for chunk in _chunks(blocks, n * height * width, limit):
        group = [blocks[i] for i in chunk]
        hidden = _hidden(x, group)
        height, width = hidden.shape[2:]
        pieces = _matrix(hidden).split([_conv(block.project).in_channels for block in group], 1)
        outputs += [piece @ _dense(block.project).t() for piece, block in zip(pieces, group, strict=True)]
        order += chunk

    channels = outputs[0].shape[1]
    norms = [_norm(blocks[i].project) for i in order]
    scale = torch.stack([gate[i] for i in order]).to(norms[0].weight.dtype).repeat_interleave(channels)
    y = _batch_norm(_images(torch.cat(outputs, 1), n, height, width), norms, scale=scale)
    return _images(_matrix(y).view(-1, len(order), channels).sum(1), n, height, width)


def _hidden(x: Tensor, blocks: Sequence[InvertedResidual]) -> Tensor:
    """What the blocks' projections are fed, concatenated along the channels."""
    n, _, height, width = x.shape
    groups = [_conv(block.expand).groups for block in blocks]
    weight = torch.cat([_shuffled(_dense(block.expand), g) for block, g in zip(blocks, groups, strict=True)])
    h = _images(_matrix(x) @ weight.t(), n, height, width)
    h = F.relu_(_batch_norm(h, [_norm(block.expand) for block in blocks], groups=groups))
    weight = torch.cat([_conv(block.depthwise).weight for block in blocks]).to(h.dtype)
    h = _depthwise(h, weight, _conv(blocks[0].depthwise).stride[0])
    return F.relu_(_batch_norm(h, [_norm(block.depthwise) for block in blocks]))


def _batch_norm(
    x: Tensor, norms: Sequence[nn.BatchNorm2d], *, groups: Sequence[int] = (), scale: Tensor | None = None
) -> Tensor:
    """The norms side by side, the channels of norm i shuffled by ``groups[i]``, the results multiplied by ``scale``."""
    groups = groups or [1] * len(norms)

    def joined(vectors: Iterable[Tensor | None]) -> Tensor:
        return torch.cat([_shuffled(cast("Tensor", v), g) for v, g in zip(vectors, groups, strict=True)])

    weight, bias = joined(norm.weight for norm in norms), joined(norm.bias for norm in norms)
    if scale is not None:
        weight, bias = weight * scale, bias * scale
    mean, var = joined(norm.running_mean for norm in norms), joined(norm.running_var for norm in norms)
    first = norms[0]
    y = F.batch_norm(x, mean, var, weight, bias, first.training, cast("float", first.momentum), first.eps)
    if first.training:
        _store(norms, groups, mean, var)
    return y


@torch.no_grad()
def _store(norms: Sequence[nn.BatchNorm2d], groups: Sequence[int], mean: Tensor, var: Tensor) -> None:
    """Give the updated running statistics back to the norms that own them."""
    sizes = [norm.num_features for norm in norms]
    own = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
    new = zip(mean.split(sizes) + var.split(sizes), [*groups, *groups], strict=True)
    # shuffling g groups of c channels is undone by shuffling c groups of g
    torch._foreach_copy_(own, [_shuffled(v, len(v) // g) if g > 1 else v for v, g in new])
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)


def _depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if x.device.type == "cpu" and weight.shape[-1] == 5:
        return cast("Callable[..., Tensor]", _Depthwise5x5.apply)(x, weight, stride)
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))


class _Depthwise5x5(torch.autograd.Function):
    """Depthwise 5x5 convolution with a fast weight gradient on CPUs.

    oneDNN's fast kernel of that gradient takes filters up to 3 wide; a 5x5 filter falls to one that is 3 to 30 times
    slower. So columns 0 to 2 and columns 2 to 4 are two gradients of 5x3 filters, on images moved by two pixels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, 2, 1, len(weight))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, _ = ctx.needs_input_grad

        def gradient(x: Tensor, weight: Tensor, padding: list[int], *, of_x: bool) -> Tensor:
            both = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [ctx.stride] * 2, padding, [1, 1], False, [0, 0], len(weight),
                [of_x, not of_x, False],
            )  # fmt: skip
            return cast("Tensor", both[0 if of_x else 1])

        grad_x = gradient(x, weight, [2, 2], of_x=True) if need_x else None
        if not need_weight:
            return grad_x, None, None
        rows = 2 if x.shape[2] < 5 else 0  # the fast kernel also wants images as high as the filter
        left, right = _moved(x, rows)
        halves = [gradient(moved, weight[..., :3], [2 - rows, 0], of_x=False) for moved in (left, right)]
        return grad_x, torch.cat([halves[0], halves[1][..., 1:]], 3), None


def _moved(x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """``x`` with two zero columns on its left, and on its right; ``rows`` zero rows above and below."""
    n, c, height, width = x.shape
    height, width = height + 2 * rows, width + 2
    # in channels-last memory the zeros left of a row are also right of the row before: one copy serves both
    pixels = x.new_zeros(n * height * width + 2, c)
    left, right = _images(pixels[:-2], n, height, width), _images(pixels[2:], n, height, width)
    left[:, :, rows : height - rows, 2:] = x
    return left, right


def _alike(blocks: Iterable[InvertedResidual]) -> bool:
    """Whether one batch norm can stand for several of theirs."""
    norms = [_norm(stage) for block in blocks for stage in (block.expand, block.depthwise, block.project)]
    kinds = {(type(n), n.training, n.momentum, n.eps, n.track_running_stats) for n in norms}
    first = norms[0]
    return len(kinds) == 1 and type(first) is nn.BatchNorm2d and None not in (first.momentum, first.running_mean)


def _chunks(blocks: dict[int, InvertedResidual], positions: int, limit: float) -> Iterator[list[int]]:
    """Blocks of one kernel and stride, as many together as ``limit`` elements of a hidden tensor allow."""
    chunks: dict[tuple[Any, ...], list[list[int]]] = {}
    room: dict[tuple[Any, ...], float] = {}
    for i, block in blocks.items():
        conv = _conv(block.depthwise)
        key = conv.kernel_size, conv.stride
        size = positions * conv.in_channels
        if room.get(key, -1) < size:
            chunks.setdefault(key, []).append([])
            room[key] = limit
        chunks[key][-1].append(i)
        room[key] -= size
    for together in chunks.values():
        yield from together


def _adds_input(option: nn.Module) -> bool:
    return type(option) is InvertedResidual and option.residual


def _conv(stage: nn.Sequential) -> nn.Conv2d:
    return cast("nn.Conv2d", stage.conv)


def _norm(stage: nn.Sequential) -> nn.BatchNorm2d:
    return cast("nn.BatchNorm2d", stage.norm)


def _dense(stage: nn.Sequential) -> Tensor:
    """The matrix (out, in) of a 1x1 convolution, with zeros between its groups."""
    conv = _conv(stage)
    weight = conv.weight.flatten(1)
    return weight if conv.groups == 1 else torch.block_diag(*weight.chunk(conv.groups))


def _shuffled(rows: Tensor, groups: int) -> Tensor:
    """Rows in the order into which :class:`ChannelShuffle` brings channels."""
    return rows if groups == 1 else rows.unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _matrix(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _images(matrix: Tensor, n: int, height: int, width: int) -> Tensor:
    return matrix.view(n, height, width, -1).permute(0, 3, 1, 2)
