r"""EAS: architecture search by network transformation (Cai et al., AAAI 2018, arXiv:1707.04873).

A small network is trained, trial 0. An episode takes M copies of it: each is made wider and then deeper by
transformations that preserve its function, but for a little noise, which a controller chooses, and is trained for a
short time, beginning with the inherited weights. Every episode starts with the same network; after ``restart_every``
episodes the best network so far is what the next ones start with, as in the paper's later stages.

The controller (:mod:`~lightning_nas.strategies.controllers.eas_actors`) reads a network with a bidirectional LSTM. It
learns by REINFORCE: all decisions that led to a network share its reward,

.. math:: L = -\frac{1}{M} \sum_{m=1}^{M} (R_m - b) \sum_t \log \pi(a_{m,t}) - \eta \bar{H}, \qquad
          R = \tan(\mathrm{ACC} \cdot \pi / 2), \qquad b \leftarrow b + 0.95 (\bar{R} - b),

where the baseline b begins at 0 and moves before it is subtracted, and :math:`\bar{H}` is the mean entropy of a
decision.

On a space without such transformations tokens are the options of an architecture, and an episode changes ``changes``
of its decisions one after another, from a random architecture; children are trained from scratch. The rest is the same.

Differs from the paper: plain networks only, no DenseNets. The start network is trained as long as any other. Accuracies
are taken for ``ceiling`` where they are higher, since the tangent has no bound. Full blocks are masked for the deeper
actor as well as places that a block has not. Its first input is zeros. Sequences are read in their length, without
padding. Where to start again is decided by a schedule, with one network. The network found is retrained from scratch.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Unpack

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat
from torch.optim import Adam, Optimizer

from lightning_nas.architecture import Architecture
from lightning_nas.functional.reinforce import moving_baselines, reinforce_loss
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count, Width
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.strategies.controllers.eas_actors import Changing, Growing
from lightning_nas.strategies.controllers.eas_policies import Choose, Policy, Walked, drawing, repeating
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.children import inheriting_child
from lightning_nas.strategies.options import ControllerOptimizer, TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import seeded
from lightning_nas.trials.book import Proposal, Trial
from lightning_nas.trials.child import Child


class EAS(TrialSearch):
    r"""Search by function-preserving transformations of networks (EAS).

    .. math:: L = -\frac{1}{M} \sum_{m=1}^{M} (R_m - b) \sum_t \log \pi(a_{m,t}) - \eta \bar{H}, \qquad
              R = \tan(\mathrm{ACC} \cdot \pi / 2), \qquad b \leftarrow b + 0.95 (\bar{R} - b)

    An episode makes M copies of a network wider and deeper, by decisions of a controller, and trains them for a short
    time, starting with the inherited weights. On other spaces an episode changes options of an architecture, and
    trials are trained from scratch. Of the weights of the trials, ``children/N.pt``, those of the current start and of
    the best network are kept.

    Source: Cai et al., AAAI 2018, arXiv:1707.04873, sections 3 and 4. Deviations: plain networks only, no DenseNets;
    accuracies above ``ceiling`` count as ``ceiling``; the network found is retrained from scratch.

    Args:
        space: any search space; on :class:`~lightning_nas.spaces.eas.space.EASSpace` networks grow and inherit weights.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        optimizer: makes the optimiser of the controller from its parameters.
        networks: networks of an episode, M; 10 in the paper.
        wider: steps of an episode that make layers wider.
        deeper: steps after them that insert a layer each.
        changes: steps of an episode on spaces whose networks do not grow.
        restart_every: episodes after which the best network is the new start; None for never.
        embedding: size of the embeddings of the controller.
        hidden: units of its encoder in each direction.
        baseline_rate: how far the baseline moves to the mean reward of an episode.
        entropy_weight: factor of the mean entropy of a decision.
        ceiling: largest accuracy that is distinguished, since the tangent has no bound.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Attributes:
        baseline: baseline of the rewards.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = EAS(ToySpace(), trials=5, child=Child(epochs=1), networks=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (5, 'toy')
    """

    defaults: ClassVar[TrialOptions] = {"trials": 33}  # the start and eight episodes

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        optimizer: ControllerOptimizer = partial(Adam, lr=0.01),
        networks: Count = 4,
        wider: Count = 1,
        deeper: Count = 1,
        changes: Count = 1,
        restart_every: Count | None = 2,
        embedding: Width = 16,
        hidden: Width = 50,
        baseline_rate: Annotated[float, Interval(gt=0, le=1)] = 0.95,
        entropy_weight: NonNegativeFloat = 1e-5,
        ceiling: Annotated[float, Interval(gt=0, lt=1)] = 0.999,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **EAS.defaults | options)
        self.keeps_weights = isinstance(space, EASSpace)
        with seeded(self.seed, "controller"):
            self.policy: Policy = (
                Growing(space, wider=wider, deeper=deeper, embedding=embedding, hidden=hidden)
                if isinstance(space, EASSpace)
                else Changing(space, changes=changes, embedding=embedding, hidden=hidden)
            )
        self._optimizer, self.networks, self.restart_every = optimizer, networks, restart_every
        self.baseline_rate, self.entropy_weight, self.ceiling = baseline_rate, entropy_weight, ceiling
        self.baseline = 0.0
        self._start = 0  # index in the history
        self._kept: list[int] = []  # trials with weights

    def usual_child(self) -> Child:
        return inheriting_child()

    def configure_optimizers(self) -> Optimizer:
        return self._optimizer(list(self.policy.parameters()))

    def reward(self, trial: Trial) -> float:
        """Tangent of an accuracy, which rewards improvements close to 1 more; other rewards are not changed."""
        worth = super().reward(trial)
        if self.task.score_name != "acc":
            return worth
        return math.tan(min(max(worth, 0.0), self.ceiling) * math.pi / 2)

    # -- an episode ---------------------------------------------------------------------------------------------

    @property
    def blind(self) -> int:
        """The start and the first episode."""
        return 1 + self.networks

    @property
    def most_begun_with(self) -> int:
        """The start, where the space has none of its own."""
        return int(self.policy.start is None)

    def propose(self, number: int) -> Proposal | None:
        """The start network, then the networks of each episode once the previous one has been learned from."""
        episode = (number - 1) // self.networks + 1
        if not number:
            first = self.policy.start or self.beginning(0, self.rng("propose", 0))
            return Proposal(first, {"episode": 0, "parent": None, "decisions": []})
        if len(self.history) <= (episode - 1) * self.networks:
            return None
        start = self.history[self._start][0]
        with torch.no_grad():
            walked = self._walk([number], drawing(self.rng("propose", number)))
        info = {"episode": episode, "parent": start.number, "decisions": walked.chosen[0]}
        inherits = self.keeps_weights and not start.failed
        return Proposal(walked.architectures[0], info, parent=start.number if inherits else None)

    def moved(self, proposal: Proposal, architecture: Architecture) -> Proposal:
        """The start may be another; what an episode leads to is what its decisions lead to."""
        return proposal if proposal.info["episode"] else super().moved(proposal, architecture)

    def _walk(self, numbers: list[int], choose: Choose) -> Walked:
        """The decisions that lead to these trials."""
        begun: list[Architecture] = [self.history[self._start][0].architecture] * len(numbers)
        walked: Walked = self.policy(begun, choose, [self.rng("fill", number) for number in numbers])
        return walked

    def learn(self, trial: Trial, reward: float) -> None:
        episode, more = divmod(len(self.history) - 1, self.networks)
        if episode and not more:
            self._update(self.history[-self.networks :])
            if self.restart_every and episode % self.restart_every == 0:
                self._start = self._best
        self._tidy(trial.number)

    def _update(self, episode: list[tuple[Trial, float]]) -> None:
        """Update the controller by the rewards of an episode."""
        rewards = torch.tensor([reward for _, reward in episode])
        self.baseline = moving_baselines(rewards.mean()[None], self.baseline, 1 - self.baseline_rate)[-1].item()
        trials = [trial for trial, _ in episode]
        walked = self._walk([t.number for t in trials], repeating([t.info["decisions"] for t in trials]))
        entropy = walked.entropies.mean()
        loss = reinforce_loss(walked.log_probabilities, rewards, self.baseline) - self.entropy_weight * entropy
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.check_parameters()
        told = {"reward": rewards.mean().item(), "baseline": self.baseline, "entropy": entropy.item()}
        self.figures = {f"controller/{name}": value for name, value in told.items()}

    # -- weights on the disk ------------------------------------------------------------------------------------

    def _tidy(self, number: int) -> None:
        """Remove the weights that no later trial can inherit."""
        if not self.book.keep:
            return
        wanted = {self.history[place][0].number for place in (self._start, self._best)}
        for other in {*self._kept, number} - wanted:
            Path(self.book.keep(other)).unlink(missing_ok=True)
        self._kept = sorted(wanted)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "baseline": self.baseline, "start": self._start, "kept": self._kept}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.baseline, self._start, self._kept = state["baseline"], state["start"], list(state["kept"])
        self.places([self._start] if self.history else [])
