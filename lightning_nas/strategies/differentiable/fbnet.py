r"""FBNet: hardware-aware differentiable search (Wu et al., CVPR 2019, arXiv:1812.03443).

Every layer's blocks are mixed by gates :math:`m_l = \mathrm{softmax}((\theta_l + g_l) / \tau)` with Gumbel noise
:math:`g_l`, drawn once a batch; weights and :math:`\theta` minimise

.. math:: \mathrm{CE}(a, w) \cdot \alpha \log(\mathrm{LAT}(a))^\beta, \qquad
          \mathrm{LAT}(a) = \sum_l \sum_i m_{l,i} \, \mathrm{LAT}(b_{l,i})

on two disjoint parts of the training data, in turns of whole epochs, :math:`\theta` frozen at first; :math:`\tau` falls
by a constant factor an epoch. At the end architectures are sampled from :math:`\mathrm{softmax}(\theta)`.

Differs from the paper: the sampled architectures are ranked by their accuracy with inherited weights, and the best is
the answer; the paper trains them all (retraining each is ``stages=[retrain]`` with its file). A latency table whose
logarithm could be negative is refused: the exponent would give NaN.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, Unpack

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.architecture import Architecture
from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.strategies.options import ArchOptions
from lightning_nas.strategies.penalties import FBNetProduct
from lightning_nas.tasks.base import Batch, Task


class FBNet(AnnealedSearch):
    r"""Latency-aware differentiable search with Gumbel-softmax gates (FBNet).

    .. math:: \mathrm{CE}(a, w) \cdot \alpha \log(\mathrm{LAT}(a))^\beta, \qquad
              \mathrm{LAT}(a) = \sum_l \sum_i m_{l,i} \, \mathrm{LAT}(b_{l,i}), \qquad
              m_l = \mathrm{softmax}\big((\theta_l + g_l) / \tau\big)

    with logits :math:`\theta` (layers, blocks), Gumbel noise :math:`g`, drawn once a batch, and latencies in
    microseconds. Weights and logits are trained in turns of whole epochs; the answer is the best of some samples.

    Source: Wu et al., CVPR 2019, arXiv:1812.03443, section 3. Deviations: sampled architectures are ranked by their
    accuracy with inherited weights, where the paper trains them all.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation: milliseconds, or multiply-adds or parameters instead. None measures the
            operations on this machine, which takes seconds and differs a little every time.
        alpha: scale of the latency factor.
        beta: exponent of the logarithm of the latency in microseconds.
        temperature: of the Gumbel softmax in the first epoch.
        anneal: factor of the temperature after every epoch; exp(-0.045) in the paper, which has 90 epochs.
        candidates: number of architectures sampled for the answer.
        answer_by: "sample" answers with the best of ``candidates`` sampled architectures, "argmax" with the most
            probable one.
        theta_std: standard deviation of the initial logits; 0 for equal logits.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`, without ``penalty``.

    Raises:
        LatencyTableError: an architecture of the space could cost less than one microsecond (or unit).

    Example:
        >>> from lightning_nas.latency.sources import Macs
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = FBNet(ToySpace(), table=Macs()(ToySpace()), arch_warmup_epochs=0)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    table: LatencyTable

    defaults: ClassVar[ArchOptions] = {
        "weights_optimizer": partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
        "weights_clip": None,
        "arch_optimizer": partial(Adam, lr=0.1, weight_decay=5e-4),
        "alternate": "epoch",
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        alpha: PositiveFloat = 0.2,
        beta: NonNegativeFloat = 0.6,
        temperature: PositiveFloat = 5.0,
        anneal: PositiveFloat = 0.82,
        candidates: PositiveInt = 10,
        answer_by: Literal["sample", "argmax"] = "sample",
        theta_std: NonNegativeFloat = 0.0,
        **options: Unpack[ArchOptions],
    ) -> None:
        penalty = FBNetProduct(alpha, beta)
        super().__init__(space, task, table, theta_std=theta_std, penalty=penalty, **FBNet.defaults | options)
        self.temperature, self.anneal = temperature, anneal
        self.candidates, self.answer_by = candidates, answer_by

    @property
    def tau(self) -> float:
        """The temperature of the current epoch."""
        return self.temperature * self.anneal**self.current_epoch

    def gates(self, generator: torch.Generator) -> Gates:
        return Gates.soft(
            {
                group: gumbel_softmax(theta, gumbel_noise(theta.shape, generator), self.tau)
                for group, theta in self.theta.items()
            }
        )

    def weights_loss(self, batch: Batch) -> Tensor:
        return self._loss(batch, "weights", self.task_loss)

    def arch_loss(self, batch: Batch) -> Tensor:
        return self._loss(batch, "arch", self.held_out_loss)

    def _loss(self, batch: Batch, stream: str, loss: Callable[[Batch, Gates], Tensor]) -> Tensor:
        gates = self.gates(self.generator(stream))
        return self.penalised(loss(batch, gates), gates)

    def choose(self) -> Architecture:
        """The best of ``candidates`` samples by inherited weights, the cheaper of two equals; or the most probable."""
        if self.answer_by == "argmax":
            return self.derive()
        generator = self.generator("answer")
        sampled = dict.fromkeys(self.sample(generator) for _ in range(self.candidates))
        self.scored = {a: self.score(a) for a in sorted(sampled, key=lambda a: self.space.cost(a, self.table))}
        return max(self.scored, key=lambda a: self.scored[a])
