r"""NASNet's search (Zoph, Vasudevan, Shlens and Le, CVPR 2018, arXiv:1707.07012).

The recurrent controller of NAS-RL describes cells, which are searched in a small network on CIFAR-10 and then put into
larger ones (``experiment=nasnet_imagenet``). It learns by proximal policy optimisation, on minibatches of children:

.. math:: \frac{1}{m} \sum_k \min\big(r_k A_k,\ \mathrm{clip}(r_k, 1 - \epsilon, 1 + \epsilon) A_k\big)
          + \lambda H(\theta), \qquad r_k = \frac{P(a_k; \theta)}{P(a_k; \theta_k)}, \qquad A_k = R_k - b

where :math:`\theta_k` are the parameters by which the child was drawn, R is its validation accuracy, b an exponential
moving average of earlier rewards, and H the entropy of the decisions. Children wait in a queue; as soon as m results
have come, whichever, the controller is updated (``controller/staleness`` says by how many updates their proposals were
late). The paper compares with a search that draws every decision uniformly (``update=random``); ``reinforce`` is the
update of NAS-RL.

Differs from the paper: what it does not tell is ours: the clip, the number of steps on a minibatch, that a whole
architecture is one action with one ratio. The baseline begins with the first rewards instead of 0, and a child that
failed has the reward 0. The 250 best are not trained again; the answer is the best. The controller is ENAS': where the
paper has a softmax for each of 10 B decisions, here decisions with the same options share one and an embedding, in both
cells, and hidden states are chosen by attention over the earlier ones, with steps of the LSTM for those that are there
from the start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch import Tensor

from lightning_nas.architecture import Architecture
from lightning_nas.functional.reinforce import ppo_loss, reinforce_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Drawn
from lightning_nas.strategies.multi_trial.policy import PolicySearch, gradients
from lightning_nas.strategies.options import PolicyOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial


class NASNet(PolicySearch):
    r"""Search by a recurrent controller trained with proximal policy optimisation (NASNet).

    .. math:: \frac{1}{m} \sum_k \min\big(r_k A_k,\ \mathrm{clip}(r_k, 1 - \epsilon, 1 + \epsilon) A_k\big)
              + \lambda H(\theta), \qquad r_k = \frac{P(a_k; \theta)}{P(a_k; \theta_k)}, \qquad A_k = R_k - b

    over minibatches of m trials with rewards (m,); b is a moving average of earlier rewards, H the entropy.

    Source: Zoph, Vasudevan, Shlens and Le, CVPR 2018, arXiv:1707.07012, section 3 and appendix A. Deviations: the paper
    leaves open the clip, the steps on a minibatch and the ratio, which is that of a whole architecture here.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        update: "ppo", "reinforce", or "random" for uniform draws without a controller.
        clip: largest deviation of the ratio of "ppo" from 1.
        steps: optimisation steps on one minibatch with "ppo"; "reinforce" makes one.
        entropy_weight: factor of the entropy of an architecture, the sum over its decisions.
        options: of :class:`~lightning_nas.strategies.multi_trial.policy.PolicySearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = NASNet(ToySpace(), trials=4, child=Child(epochs=1), children=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    defaults: ClassVar[PolicyOptions] = {"trials": 24}

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        update: Literal["ppo", "reinforce", "random"] = "ppo",
        clip: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        steps: Count = 4,
        entropy_weight: NonNegativeFloat = 1e-5,
        **options: Unpack[PolicyOptions],
    ) -> None:
        super().__init__(space, task, table, **NASNet.defaults | options)
        self.update, self.clip, self.steps, self.entropy_weight = update, clip, steps, entropy_weight
        self.came: list[int] = []  # indices of trials that no update has used

    def propose(self, number: int) -> Proposal:
        if self.update == "random":
            return Proposal(self.beginning(number, self.rng("propose", number)))
        drawn = self.drawn(self.controller, number)
        info = {"version": self.version, "log_probability": drawn.log_probabilities.item()}
        return self.warmed(Proposal(drawn.architectures[0], info), number)

    def moved(self, proposal: Proposal, architecture: Architecture) -> Proposal:
        moved = super().moved(proposal, architecture)
        if self.update == "random":
            return moved
        with torch.no_grad():
            probability = self.controller.replay([architecture]).log_probabilities.item()
        return replace(moved, info=moved.info | {"log_probability": probability})

    def learn(self, trial: Trial, reward: float) -> None:
        if self.update == "random":
            return
        self.came.append(len(self.history) - 1)
        if len(self.came) == self.children_a_step:
            self._learn(self.came)
            self.came = []
            self.version += 1

    def _learn(self, places: list[int]) -> None:
        told = [self.history[place][0].info for place in places]
        rewards, baseline = self.minibatch(places, [info["version"] for info in told])
        before = torch.tensor([info["log_probability"] for info in told])
        for _ in range(self.steps if self.update == "ppo" else 1):
            drawn = self.replayed(self.controller, places)
            self.step(gradients(self._loss(drawn, before, rewards, baseline), self.controller))

    def _loss(self, drawn: Drawn, before: Tensor, rewards: Tensor, baseline: Tensor) -> Tensor:
        if self.update == "ppo":
            loss = ppo_loss(drawn.log_probabilities, before, rewards - baseline, self.clip)
        else:
            loss = reinforce_loss(drawn.log_probabilities, rewards, baseline)
        return loss - self.entropy_weight * drawn.entropies.mean()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "came": list(self.came)}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.came = list(state["came"])
