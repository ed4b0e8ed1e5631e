r"""DARTS-: robustly stepping out of performance collapse (Chu et al., ICLR 2021, arXiv:2009.01027).

DARTS whose every mixed edge has a skip connection beside it, outside the softmax, with weight :math:`\beta`:
:math:`\sum_o \mathrm{softmax}(\alpha)_o \, o(x) + \beta(e) \, x`. It takes the part that skip connections play in
training, so that their :math:`\alpha` tells what they are worth. :math:`\beta` falls from 1 to 0 over the epochs; the
network that is derived has no such connection.

Differs from the paper: nothing; on choices that change the shape the connection is the space's own skip operation.
"""

import math
from typing import Any, ClassVar, Literal, Unpack

from pydantic import NonNegativeFloat

from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.altered import AuxiliaryMixedOp
from lightning_nas.spaces.base import Supernet, WeightSharingSpace
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.options import SoftmaxOptions
from lightning_nas.tasks.base import Task

Decay = Literal["linear", "cosine", "slow_cosine"]


class DARTSMinus(DARTS):
    r"""DARTS with an auxiliary skip connection that fades out (DARTS-).

    .. math:: \bar{o}(x) = \sum_o \mathrm{softmax}(\alpha)_o \, o(x) + \beta(e) \, x

    The auxiliary connection takes over the part that skip connections play in training, so that the logits
    :math:`\alpha` (choices, options) measure their value as operations. :math:`\beta` falls to 0 over the epochs
    :math:`e`; the derived network has no auxiliary connection.

    Source: Chu et al., ICLR 2021, arXiv:2009.01027, section 3. Deviations: in choices that change the shape the
    auxiliary connection is the skip operation of the space.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging and for a penalty; None measures it where a penalty needs it.
        beta: weight of the auxiliary connection in the first epoch.
        decay: how it falls, see :func:`auxiliary_weight`.
        order: gradient of the logits, see :class:`~lightning_nas.strategies.differentiable.darts.DARTS`.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = DARTSMinus(ToySpace(), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    mixes: ClassVar[bool] = True

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        beta: NonNegativeFloat = 1.0,
        decay: Decay = "linear",
        order: Literal["first", "second", "exact"] = "first",
        **options: Unpack[SoftmaxOptions],
    ) -> None:
        super().__init__(space, task, table, order=order, **options)
        self.beta, self.decay = beta, decay
        self._mixed = [module for module in self.supernet.modules() if isinstance(module, AuxiliaryMixedOp)]

    def make_supernet(self) -> Supernet:
        return self.space.supernet(AuxiliaryMixedOp)

    def supernet_copy(self) -> Supernet:
        """A copy without the auxiliary connections, which no network that is derived has."""
        supernet = super().supernet_copy()
        for module in supernet.modules():
            if isinstance(module, AuxiliaryMixedOp):
                module.beta = 0.0
        return supernet

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        weight = auxiliary_weight(self.beta, self.decay, self.current_epoch, self.epochs)
        for mixed in self._mixed:
            mixed.beta = weight


def auxiliary_weight(beta: float, decay: Decay, epoch: int, epochs: int) -> float:
    """Weight of the auxiliary connection in epoch ``epoch`` of ``epochs``.

    >>> [round(auxiliary_weight(1.0, "linear", e, 50), 7) for e in (0, 25, 50)]
    [1.0, 0.5, 0.0]
    >>> round(auxiliary_weight(1.0, "cosine", 25, 50), 7), round(auxiliary_weight(1.0, "slow_cosine", 25, 50), 7)
    (0.5, 0.7071068)
    """
    done = epoch / epochs
    if decay == "linear":
        return beta * (1 - done)
    if decay == "cosine":
        return beta * (1 + math.cos(math.pi * done)) / 2
    return beta * math.cos(math.pi * done / 2)
