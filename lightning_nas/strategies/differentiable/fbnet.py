r"""FBNet: hardware-aware differentiable search (Wu et al., CVPR 2019, arXiv:1812.03443).

Every layer's blocks are mixed by gates :math:`m_l = \mathrm{softmax}((\theta_l + g_l) / \tau)` with Gumbel noise
:math:`g_l`, drawn once a batch; weights and :math:`\theta` minimise

.. math:: \mathrm{CE}(a, w) \cdot \alpha \log(\mathrm{LAT}(a))^\beta, \qquad
          \mathrm{LAT}(a) = \sum_l \sum_i m_{l,i} \, \mathrm{LAT}(b_{l,i})

on two disjoint parts of the training data, in turns of whole epochs, :math:`\theta` frozen at first; :math:`\tau` falls
by a constant factor an epoch. At the end architectures are sampled from :math:`\mathrm{softmax}(\theta)`.

Differs from the paper: the sampled architectures and the most probable one are ranked by their accuracy with inherited
weights, and the best is the answer; the paper trains all samples (retraining each is ``stages=[retrain]`` with its
file). :math:`\tau` reaches the same last value in a search of any length: a factor of exp(-0.045) an epoch, which the
paper has for its 90 epochs, leaves gates without a gradient in a search that is much longer. A latency table whose
logarithm could be negative is refused: the exponent would give NaN.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Unpack

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.optim import SGD, Adam

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.functional.relaxation import exponential_schedule, gumbel_noise, gumbel_softmax
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.base import AnnealedSearch
from lightning_nas.strategies.options import COLDEST, HOTTEST, ArchOptions, Temperature
from lightning_nas.strategies.penalties import FBNetProduct
from lightning_nas.tasks.base import Batch, Task


class FBNet(AnnealedSearch):
    r"""Latency-aware differentiable search with Gumbel-softmax gates (FBNet).

    .. math:: \mathrm{CE}(a, w) \cdot \alpha \log(\mathrm{LAT}(a))^\beta, \qquad
              \mathrm{LAT}(a) = \sum_l \sum_i m_{l,i} \, \mathrm{LAT}(b_{l,i}), \qquad
              m_l = \mathrm{softmax}\big((\theta_l + g_l) / \tau\big)

    with logits :math:`\theta` (layers, blocks), Gumbel noise :math:`g`, drawn once a batch, and latencies in
    microseconds. Weights and logits are trained in turns of whole epochs; the answer is the best of some samples and of
    the most probable architecture.

    Source: Wu et al., CVPR 2019, arXiv:1812.03443, section 3. Deviations: architectures are ranked by their accuracy
    with inherited weights, where the paper trains all samples; the most probable one is ranked with them; the
    temperature falls to the same value in a search of any length.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation: milliseconds, or multiply-adds or parameters instead. None measures the
            operations on this machine, which takes seconds and differs a little every time.
        alpha: scale of the latency factor.
        beta: exponent of the logarithm of the latency in microseconds.
        temperature: of the Gumbel softmax in the first epoch.
        last_temperature: in the last epoch, reached by a constant factor an epoch; 5 exp(-0.045 * 89) = 0.0911 in the
            paper, a factor of exp(-0.045) in its 90 epochs.
        anneal: the factor an epoch itself, whatever the length of the search; None for ``last_temperature``.
        candidates: number of architectures sampled for the answer.
        answer_by: "sample" answers with the best of ``candidates`` sampled architectures and the most probable one,
            "argmax" with the most probable one, "perturbation" with the options whose removal from the supernet hurts
            most, see :mod:`~lightning_nas.strategies.differentiable.perturbation`.
        perturbation_steps: weights steps of a copy of the supernet after each decision by "perturbation".
        theta_std: standard deviation of the initial logits; 0 for equal logits.
        beta_decay: weight of the regulariser of beta-DARTS at the end of the search; 0 for none.
        options: of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`, without ``penalty``.

    Raises:
        LatencyTableError: an architecture of the space could cost less than one microsecond (or unit).
        ConfigError: when the search begins: ``anneal`` takes the temperature below 0.01 in its epochs.

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
    lengths: ClassVar[tuple[str, ...]] = ("arch_warmup_epochs", "temperature", "anneal")

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
        temperature: Temperature = 5.0,
        last_temperature: Temperature = 0.56,
        anneal: PositiveFloat | None = None,
        candidates: Count = 10,
        answer_by: Literal["sample", "argmax", "perturbation"] = "sample",
        perturbation_steps: NonNegativeInt = 0,
        theta_std: NonNegativeFloat = 0.0,
        beta_decay: NonNegativeFloat = 0.0,
        **options: Unpack[ArchOptions],
    ) -> None:
        penalty = FBNetProduct(alpha, beta)
        given = FBNet.defaults | options
        super().__init__(
            space,
            task,
            table,
            theta_std=theta_std,
            penalty=penalty,
            answer_by="perturbation" if answer_by == "perturbation" else "probabilities",
            perturbation_steps=perturbation_steps,
            beta_decay=beta_decay,
            **given,
        )
        self.temperature, self.last_temperature, self.anneal = temperature, last_temperature, anneal
        self.candidates, self.answer_by = candidates, answer_by

    @classmethod
    def check_lengths(cls, epochs: int, settings: Mapping[str, Any], *, shortened: bool = False) -> None:
        """Refuse a factor that leaves gates without a gradient in the last epoch, besides a warm-up that is too long.

        Raises:
            ConfigError: names the key, the temperature it leads to, and what to set.
        """
        super().check_lengths(epochs, settings, shortened=shortened)
        anneal = settings["anneal"]
        last = settings["temperature"] if anneal is None else settings["temperature"] * anneal ** (epochs - 1)
        if not COLDEST <= last <= HOTTEST:
            raise ConfigError(
                f"strategy.anneal={anneal:g} takes the temperature to {last:.3g} in trainer.max_epochs={epochs}, where "
                f"gates have no gradient; legal: {COLDEST:g} to {HOTTEST:g}, or strategy.anneal=null, which falls to "
                "strategy.last_temperature in any number of epochs"
            )

    @property
    def tau(self) -> float:
        """The temperature of the current epoch."""
        if self.anneal is not None:
            return self.temperature * self.anneal**self.current_epoch
        return exponential_schedule(self.temperature, self.last_temperature, self.current_epoch, self.epochs)

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

    @property
    def answer_rule(self) -> str:
        if self.answer_by != "sample":
            return super().answer_rule
        return (
            f"the best score of the most probable architecture and {self.candidates} samples, with the shared weights "
            "at the end of the search"
        )

    def choose(self) -> Architecture:
        """The best of the most probable architecture and ``candidates`` samples, by inherited weights.

        The cheaper of two equals; with ``answer_by="argmax"`` the most probable one, with "perturbation" that.
        """
        if self.answer_by != "sample":
            return super().choose()
        generator = self.generator("answer")
        samples = [self.kept(self.sample(generator), generator) for _ in range(self.candidates)]
        sampled = dict.fromkeys([self.projected(), *samples])
        self.scored = {a: self.score(a) for a in sorted(sampled, key=lambda a: self.space.cost(a, self.table))}
        return max(self.scored, key=lambda a: self.scored[a])
