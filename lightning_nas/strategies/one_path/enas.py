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

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.functional.reinforce import moving_baselines, reinforce_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.alternating import AlternatingSearch
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.tasks.base import Batch, Task
from lightning_nas.training.seeding import generator

ControllerFactory = Callable[[WeightSharingSpace, torch.Generator], Controller]


class ENAS(AlternatingSearch):
    """A controller that learns by REINFORCE which paths of a supernet are good.

    Args:
        space: any space with a supernet.
        task: what the network is for.
        table: cost of every operation, if it is to be shown.
        controller: makes the controller of a space from a generator for its weights.
        samples: architectures a weights step averages over, M.
        aggregate: architectures a controller step averages over.
        entropy_weight: of the decisions' entropy in the reward.
        skip_weight: of the penalty of connections, where a space has such decisions.
        baseline_decay: how much of itself the baseline keeps at every architecture.
        candidates: architectures drawn for the answer.
        options: of :class:`~lightning_nas.strategies.alternating.AlternatingSearch`; ``alternate`` is "epoch" here.
    """

    def __init__(
        self,
        space: WeightSharingSpace,
        task: Task,
        table: LatencyTable | None = None,
        *,
        controller: ControllerFactory,
        samples: PositiveInt = 1,
        aggregate: PositiveInt = 10,
        entropy_weight: NonNegativeFloat = 1e-4,
        skip_weight: NonNegativeFloat = 0.8,
        baseline_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.99,
        candidates: PositiveInt = 10,
        **options: Any,
    ) -> None:
        super().__init__(space, task, table, **{"alternate": "epoch"} | options)
        self.controller = controller(space, generator(self.seed, "controller"))
        self.samples, self.aggregate, self.candidates = samples, aggregate, candidates
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
        """The likeliest option at each step, given those before."""
        return self.controller.greedy()

    def answer(self) -> Architecture:
        batches = self.data.score_batches(self.score_batches, "arch")
        drawn = dict.fromkeys(map(self.space.canonical, self.draw(self.candidates, self.generator("answer"))))
        self.scored = {architecture: self.score(architecture, batches) for architecture in drawn}
        return max(self.scored, key=lambda architecture: self.scored[architecture])

    # -- the two steps ------------------------------------------------------------------------------------------

    def weights_loss(self, batch: Batch) -> Tensor:
        drawn = self.draw(self.samples, self.generator("weights"))
        return torch.stack([self.task_loss(batch, self._path(architecture)) for architecture in drawn]).mean()

    def arch_loss(self, batch: Batch) -> Tensor:
        drawn = self.controller.sample(self.aggregate, self.generator("arch"))
        rewards = torch.tensor([self.path_reward(batch, self._path(one)) for one in drawn.architectures])
        worth = self.trainer.strategy.reduce(rewards.to(self.device), reduce_op="mean")  # each has data of its own
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
