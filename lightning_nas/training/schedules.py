"""Learning-rate schedules that torch does not have, and schedules as long as the fit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler

from lightning_nas.errors import ConfigError
from lightning_nas.signature import Checked


@dataclass(frozen=True)
class OverEpochs:
    """A schedule whose length is known when the fit begins, like ``T_max: ${trainer.max_epochs}`` in a YAML file.

    A search replaces it by :meth:`of` its ``Trainer(max_epochs=...)``, P-DARTS by the length of a stage.

    Args:
        schedule: makes the schedule from the optimiser and the number of epochs.
        argument: name of the argument of ``schedule`` that is the number of epochs.
        epochs: length; None until it is known.

    Raises:
        ConfigError: called while the length is not known.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> cosine().of(12)(optimizer).T_max
        12
    """

    schedule: Callable[..., LRScheduler]
    argument: str
    epochs: int | None = None

    def of(self, epochs: int) -> "OverEpochs":
        """This schedule with its length."""
        return replace(self, epochs=epochs)

    def __call__(self, optimizer: Optimizer) -> LRScheduler:
        if self.epochs is None:
            raise ConfigError(f"{self.schedule} has no length outside of a search; use OverEpochs.of(epochs)")
        return self.schedule(optimizer, **{self.argument: self.epochs})


def cosine() -> OverEpochs:
    """Cosine annealing to 0 over the whole fit."""
    return OverEpochs(CosineAnnealingLR, "T_max")


def cosine_stages() -> OverEpochs:
    """A cosine to 0 in each stage of the search, with warm restarts."""
    return OverEpochs(CosineAnnealingWarmRestarts, "T_0")


class WarmupThenCosine(Checked, LRScheduler):
    """Cosine from ``warmup_lr`` to 0, then a second cosine from the optimiser's rate to 0; one step an epoch.

    Args:
        optimizer: the optimiser.
        T_max: epochs of both cosines together.
        warmup_epochs: epochs of the first cosine.
        warmup_lr: initial rate of the first cosine.

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
        """The rates of this epoch, one for each parameter group."""
        if self.last_epoch < self.warmup_epochs:
            done, peaks = self.last_epoch / self.warmup_epochs, [self.warmup_lr] * len(self.base_lrs)
        else:
            done = (self.last_epoch - self.warmup_epochs) / max(1, self.T_max - self.warmup_epochs)
            peaks = [float(rate) for rate in self.base_lrs]
        return [peak * (1 + math.cos(math.pi * min(done, 1.0))) / 2 for peak in peaks]


class LinearWarmup(Checked, LRScheduler):
    """Linear warm-up of a cosine or linear decay to 0, for large batches; one step an epoch.

    Source: Goyal et al., 2017, arXiv:1706.02677, section 2.2.

    Args:
        optimizer: the optimiser.
        T_max: epochs.
        warmup_epochs: epoch e of the warm-up has (e + 1) / warmup_epochs of the decayed rate.
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
        """The rates of this epoch, one for each parameter group."""
        done = min(self.last_epoch / self.T_max, 1.0)
        left = (1 + math.cos(math.pi * done)) / 2 if self.fall == "cosine" else 1 - done
        share = min((self.last_epoch + 1) / self.warmup_epochs, 1.0)
        return [float(rate) * left * share for rate in self.base_lrs]


class ExponentialFrom(Checked, LRScheduler):
    """Constant until ``first_epoch``, then multiplied by ``gamma`` every epoch; one step an epoch.

    Args:
        optimizer: the optimiser.
        gamma: factor.
        first_epoch: first epoch with a smaller rate, counted from 0.

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
        """The rates of this epoch, one for each parameter group."""
        factor = self.gamma ** max(0, self.last_epoch + 1 - self.first_epoch)
        return [float(rate) * factor for rate in self.base_lrs]


class ExponentialToFloor(Checked, LRScheduler):
    """Multiplied by ``gamma`` every epoch, and constant once it has fallen to a share of its beginning.

    Source: Yu et al., ECCV 2020, arXiv:2003.11142, section 3.1, "exponentially decaying with constant ending".

    Args:
        optimizer: the optimiser.
        gamma: factor.
        floor: share of the first rate at which it stays, 0.05 in the paper.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=8.0)
        >>> schedule, rates = ExponentialToFloor(optimizer, gamma=0.5, floor=0.25), []
        >>> for _ in range(4):
        ...     rates.append(schedule.get_last_lr()[0])
        ...     optimizer.step(); schedule.step()
        >>> rates
        [8.0, 4.0, 2.0, 2.0]
    """

    def __init__(self, optimizer: Optimizer, gamma: PositiveFloat, floor: NonNegativeFloat = 0.05) -> None:
        self.gamma, self.floor = gamma, floor
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this epoch, one for each parameter group."""
        factor = max(self.gamma**self.last_epoch, self.floor)
        return [float(rate) * factor for rate in self.base_lrs]


class CosinePhases(Checked, LRScheduler):
    r"""A cosine to 0 in each of several phases, each with a rate of its own.

    .. math:: \eta_e = \eta\, f_k\, \tfrac12 \Big(1 + \cos \pi \frac{e - b_k}{b_{k+1} - b_k}\Big)

    at epoch e of phase k, which begins at b_k.

    Args:
        optimizer: the optimiser.
        T_max: epochs of all phases together.
        shares: of the phases; they are divided by their sum.
        factors: f, of the rate of the optimiser, one for each phase.

    Raises:
        ConfigError: more or fewer factors than shares.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=8.0)
        >>> schedule, rates = CosinePhases(optimizer, T_max=4, shares=[1, 1], factors=[1, 0.5]), []
        >>> for _ in range(4):
        ...     rates.append(round(schedule.get_last_lr()[0], 3))
        ...     optimizer.step(); schedule.step()
        >>> rates
        [8.0, 4.0, 4.0, 2.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: PositiveInt,  # noqa: N803 (torch's name)
        shares: Sequence[PositiveFloat] = (0.4, 0.2, 0.2, 0.2),
        factors: Sequence[PositiveFloat] = (1.0, 0.3, 0.075, 0.075),
    ) -> None:
        if len(shares) != len(factors):
            raise ConfigError(f"a schedule of {len(shares)} shares has {len(factors)} factors; legal: one for each")
        self.T_max, self.shares, self.factors = T_max, list(shares), list(factors)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates of this epoch, one for each parameter group."""
        ends = [self.T_max * end / sum(self.shares) for end in accumulate(self.shares)]
        phase = next((k for k, end in enumerate(ends) if self.last_epoch < end - 1e-9), len(ends) - 1)
        begun = ends[phase - 1] if phase else 0.0
        passed = min(1.0, (self.last_epoch - begun) / (ends[phase] - begun))
        factor = self.factors[phase] * (1 + math.cos(math.pi * passed)) / 2
        return [float(rate) * factor for rate in self.base_lrs]


def cosine_phases() -> OverEpochs:
    """The phases of Once-for-All's training, each with a cosine to 0."""
    return OverEpochs(CosinePhases, "T_max")
