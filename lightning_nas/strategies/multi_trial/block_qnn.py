r"""Block-QNN: Q-learning of blocks (Zhong, Yan, Wu, Shao and Liu, CVPR 2018, arXiv:1708.05552).

A block is written down layer by layer. The state is the layer that was written last, the action the next one; a table
holds the worth Q of each action in each state, and starts at ``initial``. Blocks are drawn in batches, each layer at
random with probability :math:`\epsilon` and by the largest Q otherwise, and :math:`\epsilon` falls by a schedule. Their
trajectories go into a memory; after each batch trajectories are drawn from it and learned from, the last step first:

.. math:: Q(s_T, a_T) \leftarrow (1 - \alpha) Q(s_T, a_T) + \alpha r_T, \qquad
          Q(s_t, a_t) \leftarrow (1 - \alpha) Q(s_t, a_t) + \alpha (r_t + \gamma \max_a Q(s_{t+1}, a)),

with :math:`r_t = r_T / T`, so that long blocks are not given up before they were seen. The reward of a short training
is corrected for what it holds back in big and dense blocks,

.. math:: 100 \, r_T = \mathrm{ACC} - \mu \log \mathrm{MACs} - \rho \log \mathrm{density},

accuracy in percent, MACs in millions, density the edges over the nodes of the block.

On a space of other architectures than blocks the actions are its decisions, one after another, and density is that of
the network's graph.

Differs from the paper: rewards are divided by 100, which the initial Q of the re-implementations is made for, and are
at least 0. Whether the MACs are in millions, and how many trajectories are replayed, the sources at hand do not say. A
failed child's trajectory is learned from with reward 0. Of actions of equal Q one is drawn.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Unpack

import torch
from annotated_types import Interval, Len
from pydantic import NonNegativeFloat

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.block_qnn.code import LayerCode
from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial

Choose = Callable[[str, Sequence[str]], str]
"""Chooses one of the legal actions of a state."""

Transition = tuple[str, str, Sequence[str]]
"""A state, the action taken, and the legal actions."""

PAPER = ((1.0, 95), (0.9, 7), (0.8, 7), (0.7, 7), (0.6, 10), (0.5, 10), (0.4, 10), (0.3, 10), (0.2, 10), (0.1, 12))


Epsilon = Annotated[float, Interval(ge=0, le=1)]


class BlockQNN(TrialSearch):
    r"""Tabular Q-learning of blocks with an epsilon schedule and experience replay (Block-QNN).

    .. math:: Q(s_T, a_T) \leftarrow (1 - \alpha) Q(s_T, a_T) + \alpha r_T, \qquad
              Q(s_t, a_t) \leftarrow (1 - \alpha) Q(s_t, a_t) + \alpha (r_t + \gamma \max_a Q(s_{t+1}, a))

    with :math:`r_t = r_T / T` and the reward, in percent of accuracy,
    :math:`100 \, r_T = \mathrm{ACC} - \mu \log \mathrm{MACs} - \rho \log \mathrm{density}`.

    Source: Zhong, Yan, Wu, Shao and Liu, CVPR 2018, arXiv:1708.05552, sections 3.2 to 4.2. Deviations: rewards are
    divided by 100 and at least 0; a failed trial has the reward 0.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        batch: architectures drawn before an update, 64 in the paper.
        epsilons: (epsilon, batches) in order; the last one continues. :data:`PAPER` has the schedule of the paper.
        replay: trajectories learned from after each batch, drawn without repetition; 128 in the paper.
        learning_rate: alpha, 0.01 in the paper.
        discount: gamma.
        initial: initial Q of every action.
        shaping: give every step its share of the reward, otherwise the last step all of it.
        macs_weight: mu.
        density_weight: rho.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: ``epsilons`` is not a schedule.

    Attributes:
        q: the table, by state and action, without entries that are still ``initial``.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = BlockQNN(ToySpace(), trials=4, child=Child(epochs=1), batch=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    defaults: ClassVar[TrialOptions] = {"trials": 40}

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        batch: Count = 8,
        epsilons: Annotated[Sequence[tuple[Epsilon, Count]], Len(1)] = (
            (1.0, 2),
            (0.6, 1),
            (0.3, 1),
            (0.1, 1),
        ),
        replay: Count = 32,
        learning_rate: Annotated[float, Interval(gt=0, le=1)] = 0.1,
        discount: Annotated[float, Interval(gt=0, le=1)] = 1.0,
        initial: NonNegativeFloat = 0.5,
        shaping: bool = True,
        macs_weight: NonNegativeFloat = 1.0,
        density_weight: NonNegativeFloat = 8.0,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **BlockQNN.defaults | options)
        self.batch, self.replay, self.learning_rate, self.discount = batch, replay, learning_rate, discount
        self.initial, self.shaping = initial, shaping
        self.macs_weight, self.density_weight = macs_weight, density_weight
        self._values, self._until = [e for e, _ in epsilons], list(accumulate(n for _, n in epsilons))
        self.q: dict[str, dict[str, float]] = {}

    # -- drawing ------------------------------------------------------------------------------------------------

    def epsilon(self, number: int) -> float:
        """The exploration rate of trial ``number``."""
        stage = bisect_right(self._until, number // self.batch)
        return self._values[min(stage, len(self._values) - 1)]

    @property
    def blind(self) -> int:
        """The first batch, after which values are learned."""
        return self.batch

    def propose(self, number: int) -> Proposal | None:
        if len(self.history) < number // self.batch * self.batch:
            return None
        rng, epsilon = self.rng("propose", number), self.epsilon(number)

        def choose(state: str, actions: Sequence[str]) -> str:
            if torch.rand((), generator=rng).item() >= epsilon:
                known = self.q.get(state, {})
                worth = [known.get(action, self.initial) for action in actions]
                actions = [action for action, w in zip(actions, worth, strict=True) if w == max(worth)]
            return actions[int(torch.randint(len(actions), (), generator=rng))]

        return self.warmed(Proposal(_walk(self.space, choose)[0], {"epsilon": epsilon}), number)

    # -- learning -----------------------------------------------------------------------------------------------

    def reward(self, trial: Trial) -> float:
        accuracy, taken = 100 * super().reward(trial), trial.architecture
        if self.macs_weight:
            accuracy -= self.macs_weight * math.log(self.space.cost(taken, self._macs) / 1e6)
        if self.density_weight:
            accuracy -= self.density_weight * math.log(density(self.space, taken))
        return max(0.0, accuracy / 100)

    @cached_property
    def _macs(self) -> LatencyTable:
        return self.table if self.table is not None and self.table.unit == "MACs" else Macs()(self.space)

    def learn(self, trial: Trial, reward: float) -> None:
        if len(self.history) % self.batch:
            return
        rng = self.rng("replay", len(self.history) // self.batch)
        for place in torch.randperm(len(self.history), generator=rng)[: self.replay].tolist():
            past, worth = self.history[place]
            self.update(steps(self.space, past.architecture), worth)

    def update(self, trajectory: Sequence[Transition], reward: float) -> None:
        """Learn from one trajectory, the last step first."""
        share = reward / len(trajectory) if self.shaping else 0.0
        target = reward
        for state, action, actions in reversed(trajectory):
            known = self.q.setdefault(state, {})
            known[action] = self._mixed(known.get(action, self.initial), target)
            target = share + self.discount * max(known.get(possible, self.initial) for possible in actions)

    def _mixed(self, before: float, target: float) -> float:
        return (1 - self.learning_rate) * before + self.learning_rate * target

    def log_search(self) -> None:
        values = [value for actions in self.q.values() for value in actions.values()]
        if values:
            self.log_batch("q/mean", sum(values) / len(values))
            self.log_batch("q/max", max(values))
        self.log_batch("q/actions", float(len(values)))
        self.log_batch("q/epsilon", self.epsilon(self.history[-1][0].number))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``q_values``: the table."""
        entries = [(state, action, value) for state, known in self.q.items() for action, value in known.items()]
        return {"q_values": [dict(zip(("state", "action", "q"), entry, strict=True)) for entry in entries]}

    def state(self) -> dict[str, Any]:
        return {**super().state(), "q": self.q}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.q = {key: dict(actions) for key, actions in state["q"].items()}


def density(space: SearchSpace, architecture: Architecture) -> float:
    """Edges over nodes, of the block where the space has blocks, otherwise of the graph of the network."""
    if isinstance(space, BlockQNNSpace):
        return space.density(architecture)
    graph = space.graph(architecture)
    return float(graph.number_of_edges() / graph.number_of_nodes())


def steps(space: SearchSpace, architecture: Architecture) -> list[Transition]:
    """The trajectory that leads to an architecture."""
    if isinstance(space, BlockQNNSpace):
        actions = iter([str(code) for code in space.codes(architecture)])
    else:
        actions = iter([f"{name}={option}" for name, option in architecture.choices])
    return _walk(space, lambda *_: next(actions))[1]


def _walk(space: SearchSpace, choose: Choose) -> tuple[Architecture, list[Transition]]:
    return _by_layers(space, choose) if isinstance(space, BlockQNNSpace) else _by_decisions(space, choose)


def _by_layers(space: BlockQNNSpace, choose: Choose) -> tuple[Architecture, list[Transition]]:
    codes, taken, state = list[LayerCode](), list[Transition](), "start"
    while not codes or codes[-1].kind != "terminal":
        legal = {str(code): code for code in space.actions(len(codes) + 1)}
        action = choose(state, list(legal))
        taken.append((state, action, list(legal)))
        codes.append(legal[action])
        state = action
    return space.of_codes(codes), taken


def _by_decisions(space: SearchSpace, choose: Choose) -> tuple[Architecture, list[Transition]]:
    choices, taken, state = dict[str, str](), list[Transition](), "start"
    for decision in space.decisions:
        if not (options := space.options(decision, choices)):
            continue
        legal = {f"{decision.name}={option}": option for option in options}
        action = choose(state, list(legal))
        taken.append((state, action, list(legal)))
        choices[decision.name], state = legal[action], action
    return space.validate(choices), taken
