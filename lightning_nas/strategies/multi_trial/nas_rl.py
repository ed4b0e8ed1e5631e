r"""Neural architecture search with reinforcement learning (Zoph and Le, ICLR 2017, arXiv:1611.01578).

A recurrent controller takes the decisions of an architecture one after another. The child it describes is trained, and
the controller learns by REINFORCE, on minibatches of m children:

.. math:: \nabla J(\theta) = \frac{1}{m} \sum_{k=1}^m \nabla \log P(a_k; \theta) \, (R_k - b), \qquad
          R = (\max \text{ validation accuracy of the last 5 epochs})^3

where the baseline b is an exponential moving average of earlier rewards. Learning is distributed: K replicas of the
controller share one set of parameters. Each draws m architectures from its copy, and when all of them are trained it
computes the gradient there, sends it to the parameter server, which moves the shared parameters, and copies them anew.
Meanwhile others have moved them: how many updates a gradient is late is logged (``controller/staleness``). With one
replica this is REINFORCE without delay.

A space whose networks grow (``nas_rl_cnn``) is searched at its first depth, then, every ``depth_every`` architectures,
at the next one. All the architectures of a minibatch are as deep as its first one.

On text the reward of the task is c / perplexity; with ``exponent=2`` it is the paper's but for a factor c, which Adam
does not see.

Differs from the paper: the average that is the baseline, whose decay is not told there, begins with the first rewards
instead of 0. The server is part of the search's process, and so are the replicas: only children run elsewhere. A child
that failed has the reward 0. The controller's embeddings are as large as its states, and its LSTMs have no biases. It
is ENAS' otherwise too: decisions with the same options share a softmax and an embedding, an anchor's probability is of
twice the paper's logit, and a cell's two indices are taken by attention over its earlier nodes, with steps of the LSTM
for nodes that are there from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Unpack

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from lightning_nas.functional.reinforce import reinforce_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.growing import GrowingSpace
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.multi_trial.policy import PolicySearch, gradients
from lightning_nas.strategies.options import PolicyOptions
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator
from lightning_nas.trials.book import Proposal, Trial


@dataclass
class Minibatch:
    """Progress of a replica.

    Attributes:
        version: number of updates of the shared parameters when the replica copied them.
        first: number of its first trial; None before there is one.
        asked: number of trials proposed.
        came: indices of the finished trials in the history.
    """

    version: int = 0
    first: int | None = None
    asked: int = 0
    came: list[int] = field(default_factory=list)


class NASRL(PolicySearch):
    r"""Search by replicas of a recurrent controller trained with REINFORCE (NAS-RL).

    .. math:: \nabla J(\theta) = \frac{1}{m} \sum_{k=1}^m \nabla \log P(a_k; \theta) \, (R_k - b), \qquad
              R = (\max \text{ validation accuracy of the last 5 epochs})^3

    over minibatches of m trials with rewards (m,). K replicas of the controller draw and wait for their own minibatch,
    and send its gradient to the shared parameters.

    Source: Zoph and Le, ICLR 2017, arXiv:1611.01578, sections 3.2 and 4. Deviations: the moving average b starts at the
    first rewards; a failed trial has the reward 0; replicas run in one process, only trials run elsewhere.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        replicas: number of replicas K; ``in_flight`` should be K times ``children``.
        accumulate: gradients of replicas that are averaged before one update.
        exponent: of the reward.
        last: number of last epochs of a trial whose best figure is its reward.
        depth_every: trials after which networks get deeper, where a space has depths; None lets the controller decide.
        options: of :class:`~lightning_nas.strategies.multi_trial.policy.PolicySearch`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = NASRL(ToySpace(), trials=4, child=Child(epochs=1))
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    defaults: ClassVar[PolicyOptions] = {"children": 2, "baseline_decay": 0.9, "trials": 40}

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        replicas: Count = 2,
        accumulate: Count = 1,
        exponent: PositiveFloat = 3.0,
        last: Count = 5,
        depth_every: Count | None = 14,
        **options: Unpack[PolicyOptions],
    ) -> None:
        super().__init__(space, task, table, **NASRL.defaults | options)
        self.exponent, self.last, self.accumulate, self.depth_every = exponent, last, accumulate, depth_every
        seeds = (generator(self.seed, "controller") for _ in range(replicas))
        self.copies = nn.ModuleList(self.make_controller(space, seed) for seed in seeds)
        self.minibatches = [Minibatch() for _ in range(replicas)]
        self._sent: list[list[Tensor]] = []  # gradients waiting for the others of an update

    def reward(self, trial: Trial) -> float:
        """The best of the last epochs, to the power of ``exponent``."""
        return float(max(map(self.task.reward, trial.curve[-self.last :])) ** self.exponent)

    @property
    def most_begun_with(self) -> int:
        """None where the first architectures have few layers."""
        return super().most_begun_with if self.depth(0) is None else 0

    # -- a replica ----------------------------------------------------------------------------------------------

    def propose(self, number: int) -> Proposal | None:
        """A trial of the replica that has waited longest; None while all wait for results."""
        free = [k for k, own in enumerate(self.minibatches) if own.asked < self.children_a_step]
        if not free:
            return None
        replica = min(free, key=lambda k: self.minibatches[k].version)
        own = self.minibatches[replica]
        own.asked, own.first = own.asked + 1, number if own.first is None else own.first
        [architecture] = self.drawn(self._copy(replica), number).architectures
        return self.warmed(Proposal(architecture, {"replica": replica, "version": own.version}), number)

    def learn(self, trial: Trial, reward: float) -> None:
        replica = trial.info["replica"]
        own = self.minibatches[replica]
        own.came.append(len(self.history) - 1)
        if len(own.came) < self.children_a_step:
            return
        rewards, baseline = self.minibatch(own.came, [own.version])
        copy = self._copy(replica)
        drawn = self.replayed(copy, own.came)
        self._send(gradients(reinforce_loss(drawn.log_probabilities, rewards, baseline), copy))
        copy.load_state_dict(self.controller.state_dict())
        self.minibatches[replica] = Minibatch(self.version)

    def depth(self, number: int) -> int | None:
        """Number of layers of a minibatch whose first trial is ``number``; None without a schedule."""
        if self.depth_every is None or not isinstance(self.space, GrowingSpace):
            return None
        return self.space.depths[min(number // self.depth_every, len(self.space.depths) - 1)]

    def _copy(self, replica: int) -> Controller:
        """The controller of a replica, with the depth of its minibatch."""
        copy, first = self.copies[replica], self.minibatches[replica].first
        assert isinstance(copy, Controller)
        if first is not None and (depth := self.depth(first)) and isinstance(self.space, GrowingSpace):
            copy.space = self.space.at_depth(depth)
        return copy

    # -- the parameter server -----------------------------------------------------------------------------------

    def _send(self, gradients: Sequence[Tensor]) -> None:
        """Send the gradient of a replica; update the shared parameters once there are enough."""
        self._sent.append(list(gradients))
        if len(self._sent) == self.accumulate:
            self.step([torch.stack(each).mean(0) for each in zip(*self._sent, strict=True)])
            self._sent = []
            self.version += 1

    def state(self) -> dict[str, Any]:
        return {**super().state(), "minibatches": [asdict(own) for own in self.minibatches], "sent": self._sent}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.minibatches = [Minibatch(**own) for own in state["minibatches"]]
        self._sent = state["sent"]
