"""Mixed operations altered by methods: each is a :data:`~lightning_nas.ops.mixed.Mix` for a supernet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_nas.ops.blocks import skip
from lightning_nas.ops.mixed import Choice, MixedOp, is_skip, plain


class PartialMixedOp(MixedOp):
    """Partial channels: the first 1/k are mixed, the others are passed on (PC-DARTS, arXiv:1907.05737, section 3.1).

    The rest is max-pooled 2x2 where the choice has stride 2, weighted by the sum of the gates, appended, and all
    channels are shuffled in k groups.

    Args:
        choice: choice with equal widths, a multiple of ``k``.
        k: inverse of the share of channels that are mixed.

    Example:
        >>> from torch import nn
        >>> options = {"keep": nn.Identity(), "drop": nn.Dropout(1.0)}
        >>> choice = Choice(tuple(options), lambda name, *_: options[name], 8, 8)
        >>> PartialMixedOp(choice, 4)(torch.ones(1, 8, 2, 2), torch.tensor([0.5, 0.5]), (0, 1))[0, :, 0, 0].tolist()
        [0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, choice: Choice, k: int) -> None:
        width = choice.in_channels // k
        super().__init__(choice.operations(width, width))
        self.k, self.width, self.stride = k, width, choice.stride

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        mixed = super().forward(x[:, : self.width], gates, active)
        rest = x[:, self.width :]
        if self.stride > 1:
            rest = F.max_pool2d(rest, self.stride, ceil_mode=True)
        weight = gates[list(active)].sum().to(x.dtype)
        both = torch.cat([mixed, weight * rest], 1)
        if both.dim() == 2:  # of a recurrent cell; torch shuffles only the channels of images
            return both.reshape(len(both), self.k, -1).transpose(1, 2).flatten(1)
        return F.channel_shuffle(both, self.k)


def partial_channels(choice: Choice, k: int) -> MixedOp:
    """Make a mixture of partial channels, or a plain one where a choice changes the width."""
    fits = choice.in_channels == choice.out_channels and choice.in_channels % k == 0
    return PartialMixedOp(choice, k) if fits else plain(choice)


class AuxiliaryMixedOp(MixedOp):
    """Mixture with an auxiliary skip connection: ``sum_i gate_i * op_i(x) + beta * skip(x)`` (arXiv:2009.01027).

    The skip is the choice's own option of that name, or the identity, or a strided 1x1 convolution where shapes change.

    Attributes:
        beta: weight of the skip, changed by the search; at 0 it is not computed.
    """

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.operations())
        self.beta = 1.0
        named = next(filter(is_skip, choice.options), None)
        widths = choice.in_channels, choice.out_channels
        self["auxiliary"] = choice.build(named, *widths) if named else skip(*widths, choice.stride)

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        mixed = super().forward(x, gates, active)
        return mixed + self.beta * self["auxiliary"](x) if self.beta else mixed


class SkipDropoutMixedOp(MixedOp):
    """Mixture with dropout on its skip connections in training (P-DARTS, arXiv:1904.12760, section 3.3.1).

    Attributes:
        rate: probability of dropout, changed by the search.
    """

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.operations())
        self.rate = 0.0

    def forward(self, x: Tensor, gates: Tensor, active: Sequence[int]) -> Tensor:
        outputs = [gates[i].to(x.dtype) * self._dropped(self[self.names[i]](x), is_skip(self.names[i])) for i in active]
        return torch.stack(outputs).sum(0) if len(outputs) > 1 else outputs[0]

    def _dropped(self, y: Tensor, is_skip: bool) -> Tensor:
        return F.dropout(y, self.rate, self.training) if is_skip and self.rate else y
