"""Several batch norms computed as one, for the fused forms of mixed operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norms = Sequence[Any]


def alike(norms: Iterable[nn.Module]) -> bool:
    """Return whether :func:`normalise` applies: plain batch norms in one mode with exponential averages."""
    kinds = {(type(n), n.training, n.affine, n.momentum, n.eps, n.track_running_stats) for n in norms}
    if len(kinds) != 1:
        return False
    kind, _, _, momentum, _, tracking = kinds.pop()
    return kind is nn.BatchNorm2d and momentum is not None and bool(tracking)


def normalise(x: Tensor, norms: Norms, scale: Tensor | None = None, groups: Sequence[int] = ()) -> Tensor:
    """Apply batch norms side by side and update their running statistics.

    Args:
        x: (N, C, H, W), the channels of all norms one after the other; or the channels of one norm, shared by all:
            then there is one output, and the norms must be in training mode and without scale.
        norms: batch norms that are :func:`alike`.
        scale: factors (norms,) of the results; the norms must have one width.
        groups: the channels of norm i are shuffled by ``groups[i]``, see :func:`shuffled`.
    """
    first, groups = norms[0], groups or (1,) * len(norms)

    def together(name: str) -> Tensor:
        return torch.cat([shuffled(getattr(norm, name), g) for norm, g in zip(norms, groups, strict=True)])

    weight, bias = (together("weight"), together("bias")) if first.affine else (None, None)
    if scale is not None:
        scale = scale.to(first.running_mean.dtype).repeat_interleave(first.num_features)
        weight, bias = (scale, None) if weight is None or bias is None else (weight * scale, bias * scale)
    if not first.training:
        return F.batch_norm(x, together("running_mean"), together("running_var"), weight, bias, eps=first.eps)
    mean, var = first.running_mean.new_zeros(2, x.shape[1]).unbind()
    y = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=1.0, eps=first.eps)  # 1.0: this batch's alone
    sizes = [norm.num_features for norm in norms]
    parts = [s.split(sizes) if sum(sizes) == x.shape[1] else [s] * len(norms) for s in (mean, var)]
    # shuffling g groups of c is undone by shuffling c groups of g
    new = [v if g == 1 else shuffled(v, len(v) // g) for part in parts for v, g in zip(part, groups, strict=True)]
    own = [getattr(norm, name) for name in ("running_mean", "running_var") for norm in norms]
    torch._foreach_lerp_(own, new, first.momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
    return y


def shuffled(rows: Tensor, groups: int) -> Tensor:
    """Reorder rows as :class:`~lightning_nas.ops.blocks.ChannelShuffle` reorders channels."""
    return rows if groups == 1 else rows.reshape(groups, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
