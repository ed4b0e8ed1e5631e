r"""ENAS: parameter sharing (Pham, Guan, Zoph, Le and Dean, ICML 2018, arXiv:1802.03268).

A recurrent controller with parameters :math:`\theta` draws architectures :math:`m`; their weights :math:`\omega` are
shared. Two phases alternate:

* weights: :math:`\nabla_\omega \frac{1}{M} \sum_{i=1}^{M} L(m_i; \omega)`, the :math:`m_i` drawn anew for every batch;
* controller: REINFORCE on batches of other data, with a moving average :math:`b` as the baseline,

  .. math:: -(R - b) \, \nabla_\theta \log \pi(m; \theta) + \lambda \, \nabla_\theta \mathrm{KL}, \qquad
            R = R(m, \omega) + \beta H(m), \qquad b \leftarrow b - (1 - d)(b - R) \text{ before it is used},

where :math:`R(m, \omega)` is the accuracy on the batch, or c / perplexity, with the batch's own statistics, H the
entropy of the decisions and KL what keeps skip connections rare. At the end architectures are drawn and scored on the
architecture part, and the best is the answer.

Differs from the paper: the architectures of one controller step are rewarded on one batch, and there are as
many steps an epoch as the architecture part has batches; the baseline begins with the mean of the first rewards instead
of 0; H is that of all options of a decision in any space, where the macro code takes the drawn ones alone; candidates
are scored on several batches, their batch norm recalibrated where a network keeps statistics. Weights of operations
that were not drawn have no gradient and stay as they are, without weight decay or momentum.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from lightning_nas.architecture import Architecture
from lightning_nas.data.reader import Alternate
from lightning_nas.functional.reinforce import moving_baselines, reinforce_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.loop import ArchSteps
from lightning_nas.strategies.options import ControllerFactory, OptimizerFactory, SchedulerFactory, SearchOptions
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import generator


class ENAS(SearchModule):
    r"""Efficient search with a recurrent controller and shared weights (ENAS).

    .. math:: -(R - b) \, \nabla_\theta \log \pi(m; \theta) + \lambda \, \nabla_\theta \mathrm{KL}, \qquad
              R = R(m, \omega) + \beta H(m)

    for M architectures m, drawn from the controller with parameters :math:`\theta` and rewarded by the accuracy with
    shared weights :math:`\omega` on a batch of the arch part; b is a moving average of the rewards, H the entropy of
    the decisions, KL a penalty of skip connections.

    Source: Pham, Guan, Zoph, Le and Dean, ICML 2018, arXiv:1802.03268, sections 2.2 and 2.3. Deviations: the
    architectures of one controller step share one batch; the baseline starts at the first mean reward.

    Args:
        space: search space with a supernet.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        controller: makes the controller of a space from a generator of its weights.
        samples: architectures that a weights step averages over, M.
        aggregate: architectures that a controller step averages over.
        entropy_weight: factor of the entropy of the decisions in the reward.
        skip_weight: factor of the penalty of connections, where a space has such decisions.
        baseline_decay: decay of the moving average of the rewards.
        candidates: number of architectures drawn for the answer.
        arch_optimizer: makes the optimiser of the controller from a list of parameter groups.
        arch_scheduler: makes its learning-rate schedule; one step an epoch. None: a constant rate.
        arch_clip: largest gradient norm of the controller step; None for no clipping.
        alternate: "epoch" goes through all weights batches, then through all architecture batches; "batch" takes both
            steps on every batch.
        arch_every: take the controller step on every n-th batch only (with ``alternate="batch"``).
        arch_warmup_epochs: epochs at the beginning without controller steps.
        options: of :class:`~lightning_nas.strategies.base.SearchModule`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = ENAS(ToySpace(), arch_warmup_epochs=0, candidates=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> search.steps_taken, search.answer().space
        ({'weights': 4, 'architecture': 4}, 'toy')
    """

    defaults: ClassVar[SearchOptions] = {
        "weights_optimizer": partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-4),
        "weights_scheduler": partial(CosineAnnealingWarmRestarts, T_0=8, T_mult=2, eta_min=0.001),
        "weights_clip": None,
    }

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        controller: ControllerFactory = partial(Controller, hidden=64, tanh_constant=2.5),
        samples: Count = 1,
        aggregate: Count = 10,
        entropy_weight: NonNegativeFloat = 1e-4,
        skip_weight: NonNegativeFloat = 0.8,
        baseline_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.95,
        candidates: Count = 20,
        arch_optimizer: OptimizerFactory = partial(Adam, lr=0.02, betas=(0.0, 0.999), eps=1e-5),
        arch_scheduler: SchedulerFactory | None = None,
        arch_clip: PositiveFloat | None = None,
        alternate: Alternate = "epoch",
        arch_every: Count = 1,
        arch_warmup_epochs: NonNegativeInt = 2,
        **options: Unpack[SearchOptions],
    ) -> None:
        arch = ArchSteps(arch_optimizer, arch_scheduler, arch_clip, alternate, arch_every, arch_warmup_epochs)
        super().__init__(space, task, table, arch=arch, **ENAS.defaults | options)
        self.controller = controller(space, generator(self.seed, "controller"))
        self.samples, self.aggregate, self.candidates = samples, aggregate, candidates
        self.drawn_a_step = samples
        self.entropy_weight, self.skip_weight, self.baseline_decay = entropy_weight, skip_weight, baseline_decay
        self.baseline: float | None = None

    # -- architectures ------------------------------------------------------------------------------------------

    def arch_parameters(self) -> list[nn.Parameter]:
        return list(self.controller.parameters())

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> Sequence[Architecture]:
        return self.controller.sample(count, generator).architectures

    def sample(self, generator: torch.Generator) -> Architecture:
        return self.draw(1, generator)[0]

    def derive(self) -> Architecture:
        """The most probable option of each decision, given those before."""
        return self.controller.greedy()

    @property
    def answer_rule(self) -> str:
        return (
            f"the best score of {self.candidates} architectures that the controller drew at the end of the search, on "
            "the arch part of the data; all other scores are of the validation part"
        )

    def choose(self) -> Architecture:
        drawn = dict.fromkeys(map(self.space.canonical, self._drawn(self.candidates, self.generator("answer"))))
        self.scored = {architecture: self.score(architecture, part="arch") for architecture in drawn}
        return max(self.scored, key=lambda architecture: self.scored[architecture])

    def _drawn(self, count: int, generator: torch.Generator) -> list[Architecture]:
        """Samples; with a target architectures near them that meet it."""
        return [self.kept(architecture, generator) for architecture in self.draw(count, generator)]

    # -- the two steps ------------------------------------------------------------------------------------------

    def weights_loss(self, batch: Batch) -> Tensor:
        drawn = self._drawn(self.samples, self.generator("weights"))
        return torch.stack([self.task_loss(batch, self._path(architecture)) for architecture in drawn]).mean()

    def monitors(self) -> set[str]:
        drawn = {"arch/entropy", "arch/reward", "arch/baseline"}
        return super().monitors() | (drawn if self.arch_warmup_epochs == 0 else set())

    def arch_loss(self, batch: Batch) -> Tensor:
        generator = self.generator("arch")
        drawn = self.controller.sample(self.aggregate, generator)
        if self.target is not None:
            drawn = self.controller.replay([self.kept(one, generator) for one in drawn.architectures])
        rewards = torch.tensor([self.path_reward(batch, self._path(one)) for one in drawn.architectures])
        worth = self.trainer.strategy.reduce(rewards.to(self.device), reduce_op="mean")  # each process has its own data
        rewards = worth + self.entropy_weight * drawn.entropies.detach()
        baselines = self._baselines(rewards)
        self.log_batch("arch/entropy", drawn.mean_entropy)
        self.log_batch("arch/reward", worth.mean(), prog_bar=True)
        self.log_batch("arch/baseline", baselines[-1])
        loss = reinforce_loss(drawn.log_probabilities, rewards, baselines)
        return loss + self.skip_weight * drawn.divergences.mean()

    def _path(self, architecture: Architecture) -> Gates:
        return self.space.gates(architecture).to(self.device)

    def _baselines(self, rewards: Tensor) -> Tensor:
        before = rewards.mean().item() if self.baseline is None else self.baseline
        baselines = moving_baselines(rewards, before, self.baseline_decay)
        self.baseline = baselines[-1].item()
        return baselines

    def state(self) -> dict[str, Any]:
        return {**super().state(), "baseline": self.baseline}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.baseline = state["baseline"]
