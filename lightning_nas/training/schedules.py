"""Learning-rate schedules torch has not."""

import math
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupThenCosine(LRScheduler):
    """One cosine from ``warmup_lr`` to 0, then another from the optimiser's rate to 0; stepped once an epoch.

    Args:
        optimizer: whose rate it sets.
        T_max: epochs of both.
        warmup_epochs: epochs of the first.
        warmup_lr: where the first begins.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule, rates = WarmupThenCosine(optimizer, T_max=4, warmup_epochs=2, warmup_lr=4.0), []
        >>> for _ in range(4):
        ...     rates.append(round(schedule.get_last_lr()[0], 6))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [4.0, 2.0, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: PositiveInt,  # noqa: N803 (torch's name)
        warmup_epochs: PositiveInt,
        warmup_lr: NonNegativeFloat,
    ) -> None:
        self.warmup_epochs, self.warmup_lr, self.T_max = warmup_epochs, warmup_lr, T_max
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this epoch, one a parameter group."""
        if self.last_epoch < self.warmup_epochs:
            done, peaks = self.last_epoch / self.warmup_epochs, [self.warmup_lr] * len(self.base_lrs)
        else:
            done = (self.last_epoch - self.warmup_epochs) / max(1, self.T_max - self.warmup_epochs)
            peaks = [float(rate) for rate in self.base_lrs]
        return [peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2 for peak in peaks]


class LinearWarmup(LRScheduler):
    """The optimiser's rate falls to 0, by a cosine or in a line, of which the first epochs get a growing share.

    Large batches need it (Goyal et al., 2017, arXiv:1706.02677). Stepped once an epoch.

    Args:
        optimizer: whose rate it sets.
        T_max: epochs.
        warmup_epochs: epoch e of these has (e + 1) / warmup_epochs of its rate.
        fall: "cosine" or "linear".

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule, rates = LinearWarmup(optimizer, T_max=4, warmup_epochs=2, fall="linear"), []
        >>> for _ in range(4):
        ...     rates.append(schedule.get_last_lr()[0])
        ...     optimizer.step(); schedule.step()
        >>> rates
        [0.5, 0.75, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: PositiveInt,  # noqa: N803 (torch's name)
        warmup_epochs: PositiveInt,
        fall: Literal["cosine", "linear"] = "cosine",
    ) -> None:
        self.T_max, self.warmup_epochs, self.fall = T_max, warmup_epochs, fall
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this epoch, one a parameter group."""
        done = min(self.last_epoch / self.T_max, 1.0)
        left = (1 + math.cos(math.pi * done)) / 2 if self.fall == "cosine" else 1 - done
        share = min((self.last_epoch + 1) / self.warmup_epochs, 1.0)
        return [float(rate) * left * share for rate in self.base_lrs]


class ExponentialFrom(LRScheduler):
    """The optimiser's rate before an epoch, from it on times ``gamma`` once more each epoch; stepped once an epoch.

    Args:
        optimizer: whose rate it sets.
        gamma: factor.
        first_epoch: that it falls in, counted from 0.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=20.0)
        >>> schedule, rates = ExponentialFrom(optimizer, gamma=0.5, first_epoch=2), []
        >>> for _ in range(4):
        ...     rates.append(schedule.get_last_lr()[0])
        ...     optimizer.step(); schedule.step()
        >>> rates
        [20.0, 20.0, 10.0, 5.0]
    """

    def __init__(self, optimizer: Optimizer, gamma: PositiveFloat, first_epoch: PositiveInt) -> None:
        self.gamma, self.first_epoch = gamma, first_epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this epoch, one a parameter group."""
        factor = self.gamma ** max(0, self.last_epoch + 1 - self.first_epoch)
        return [float(rate) * factor for rate in self.base_lrs]
