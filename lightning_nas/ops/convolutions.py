"""Convolutions of many narrow groups, faster on a CPU than its convolution library.

Results equal those of ``F.conv2d`` up to rounding, and can be differentiated twice. On other devices and under
autocast the functions call ``F.conv2d``. Images are best channels-last: a *matrix* (N * H * W, C) is then a view of
them.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Depthwise convolution, "same" padding.

    Args:
        x: (N, C, H, W).
        weight: (C, 1, k, k), k odd.
        stride: stride in both directions.
        dilation: dilation in both directions; only 1 is fast.

    Returns:
        (N, C, ceil(H / stride), ceil(W / stride)).
    """
    if dilation != 1 or _elsewhere(x):
        return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))
    return cast("Tensor", _Depthwise.apply(x, weight, stride))


def grouped_pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution of groups.

    Args:
        x: (N, groups * in, H, W).
        weight: (groups, out, in).

    Returns:
        (N, groups * out, H, W).
    """
    if _elsewhere(x):
        return F.conv2d(x, weight.flatten(0, 1)[..., None, None], groups=len(weight))
    return cast("Tensor", _GroupedPointwise.apply(x, weight))


def matrix(images: Tensor) -> Tensor:
    """(N * H * W, C), a view if the images are channels-last."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def images(matrix: Tensor, n: int, height: int, width: int) -> Tensor:
    """Channels-last (N, C, H, W), a view."""
    return matrix.view(n, height, width, -1).permute(0, 3, 1, 2)


class _Depthwise(torch.autograd.Function):
    """Gradients on oneDNN's fast paths: that of the input, with stride 1, is a convolution by the flipped filter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        s, half = ctx.stride, weight.shape[-1] // 2
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = depthwise(grad, weight.flip(2, 3)) if s == 1 else _backward(grad, x, weight, s, (half, half), 0)
        if ctx.needs_input_grad[1]:
            wide = half in (2, 3)
            grad_weight = _of_filter(grad, x, weight, s) if wide else _backward(grad, x, weight, s, (half, half), 1)
        return grad_x, grad_weight, None


class _GroupedPointwise(torch.autograd.Function):
    """One product of matrices for each group, which read and write their columns in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        (n, _, height, width), (groups, out, _) = x.shape, weight.shape
        y = x.new_empty(n * height * width, groups, out)
        torch.bmm(_columns(x, groups), weight.transpose(1, 2), out=y.transpose(0, 1))
        return images(y.flatten(1), n, height, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = grouped_pointwise(grad, weight.transpose(1, 2))
        if ctx.needs_input_grad[1]:
            grad_weight = _columns(grad, len(weight)).transpose(1, 2) @ _columns(x, len(weight))
        return grad_x, grad_weight


def _elsewhere(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.is_autocast_enabled("cpu")


def _columns(x: Tensor, groups: int) -> Tensor:
    """(groups, N * H * W, C / groups)."""
    pixels = matrix(x)
    return pixels.view(len(pixels), groups, -1).transpose(0, 1)


def _of_filter(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of a filter 5 or 7 wide.

    The fast kernel takes filters up to 3 wide; wider ones run 3 to 30 times slower. So columns 0 to 2, 2 to 4 and 4 to
    6 are the gradients of narrow filters, on images moved to where these begin.
    """
    k, columns = weight.shape[-1], list[Tensor]()
    half, narrow = k // 2, weight.new_empty(len(weight), 1, k, 3)
    # the fast kernel also wants images as high as the filter, and of 7 rows and stride 2 no padding of its own
    rows = half if x.shape[2] < k or (k == 7 and stride == 2) else 0
    for start in range(0, k - 2, 2):
        left = half - start
        if left == 1 and not rows:
            found = _backward(grad, x, narrow, stride, (half, 1), 1)
        else:
            found = _backward(grad, _moved(x, left, rows), narrow, stride, (half - rows, 0), 1)
        columns.append(found[..., 1:] if start else found)
    return torch.cat(columns, 3)


def _moved(x: Tensor, left: int, rows: int) -> Tensor:
    """``x`` two columns wider, moved to the right by ``left``; and ``rows`` zero rows above and below."""
    n, c, height, width = x.shape
    begin, end = max(left, 0), width + min(left, 2)
    pixels = x.new_empty(n, height + 2 * rows, width + 2, c)  # zeros at the edges only: half the work of a pad
    inside = pixels[:, rows : rows + height]
    for edge in (pixels[:, :rows], pixels[:, rows + height :], inside[:, :, :begin], inside[:, :, end:]):
        if edge.numel():
            edge.zero_()
    inside[:, :, begin:end] = x.permute(0, 2, 3, 1)[:, :, begin - left : end - left]
    return pixels.permute(0, 3, 1, 2)


def _backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], which: int) -> Tensor:
    """The gradient of the input (``which`` 0) or the filter (1) of a depthwise convolution."""
    geometry = [stride, stride], list(padding), [1, 1], False, [0, 0], len(weight)
    mask = [which == 0, which == 1, False]
    return cast("Tensor", torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, mask)[which])
