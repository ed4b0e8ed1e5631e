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
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.functional.relaxation import gumbel_noise, gumbel_softmax
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.strategies.penalties import FBNetProduct
from lightning_nas.tasks.base import Batch, Task


class FBNet(AnnealedSearch):
    """Latency-aware Gumbel-softmax search.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation: milliseconds, or multiply-adds or parameters in place of them.
        alpha: scale of the latency factor.
        beta: exponent of the logarithm of the latency in microseconds.
        temperature: of the Gumbel softmax in the first epoch.
        anneal: factor on the temperature after every epoch; exp(-0.045) in the paper.
        candidates: architectures sampled for the answer.
        answer_by: "sample" answers with the best of ``candidates`` sampled architectures, "argmax" with the most
            probable one.
        options: of :class:`~lightning_nas.strategies.alternating.AlternatingSearch`.

    Raises:
        ConfigError: no table.
        LatencyTableError: an architecture of the space could cost less than one microsecond (or unit).
    """

    table: LatencyTable

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None,
        *,
        alpha: PositiveFloat = 0.2,
        beta: NonNegativeFloat = 0.6,
        temperature: PositiveFloat = 5.0,
        anneal: PositiveFloat = 0.955997481833,
        candidates: PositiveInt = 10,
        answer_by: Literal["sample", "argmax"] = "sample",
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, penalty=FBNetProduct(alpha, beta), **options)
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

    def answer(self) -> Architecture:
        """The best of ``candidates`` samples by inherited weights, of equals the cheapest; or the most probable."""
        if self.answer_by == "argmax":
            return self.derive()
        generator = self.generator("answer")
        sampled = dict.fromkeys(self.sample(generator) for _ in range(self.candidates))
        self.scored = {a: self.score(a) for a in sorted(sampled, key=lambda a: self.space.cost(a, self.table))}
        return max(self.scored, key=lambda a: self.scored[a])
