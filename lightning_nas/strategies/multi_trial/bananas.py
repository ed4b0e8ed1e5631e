"""BANANAS, Bayesian optimisation with an ensemble of networks (White, Neiswanger and Savani, arXiv:1910.11858).

The first architectures are random. Then, batch after batch: an ensemble of small networks is fitted to the rewards of
all trials so far, the best architectures so far are mutated, an acquisition function scores the mutants by what the
ensemble predicts, and those with the highest scores are trained.

An architecture is encoded by the paths of its cells: one input of the predictors for every sequence of operations that
leads from an input of a cell to its output. A space whose cells do not show all their operations as edges, or that has
no cells, is encoded by one input for each option of each decision. Scores of the fresh networks without training
(``features``) may be further inputs.

Differs from the paper: a predictor has two layers, enough for hundreds of trials (the paper has ten layers of 20), and
is fitted to squared errors of standardised rewards, all trials at each step, instead of absolute errors relative to a
bound. There is a column for each path that occurs among the trials and the candidates, instead of a truncated list of
all paths; edges without an operation ("none") are no paths. A child that failed has the lowest reward of those that did
not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Unpack

import torch
from annotated_types import Interval
from pydantic import PositiveFloat
from torch import Tensor, nn

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.functional.acquisition import expected_improvement, independent_thompson, upper_confidence_bound
from lightning_nas.latency.table import LatencyTable
from lightning_nas.proxies.named import NAMED, OF_NETWORKS, ProxyName
from lightning_nas.ranges import Count, Width
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.cell_graphs import CellGraph
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal
from lightning_nas.trials.proxy_child import as_reward, fresh_scores

Column = tuple[str, ...]
"""What one input of the predictors stands for: a path, or a decision and its option."""

_NOTHING = "none"  # the operation of an edge that nothing goes through
_LOOKS = 20_000  # beginnings of paths that are followed in one cell
_KEPT = 20_000  # encodings that are remembered
_TRIES = 20  # mutations for each candidate that is wanted, before random architectures are taken


class Bananas(TrialSearch):
    r"""BANANAS: an ensemble predicts rewards, and independent Thompson sampling chooses among mutants of the best.

    .. math:: a_{t+1} = \arg\max_{a \in C} \phi(a), \qquad \phi(a) \sim N(\hat f(a), \hat\sigma^2(a)), \qquad
              C = \{\mathrm{mutate}(b) : b \in \text{best of } a_1 \dots a_t\}

    Each batch of :math:`k` trials is that of the :math:`k` highest :math:`\phi`, by predictors fitted to all trials
    before it. The search ends early where nothing untried is found.

    Source: White, Neiswanger and Savani, AAAI 2021, arXiv:1910.11858, algorithm 1. Deviations: predictors of two layers
    fitted to squared errors of standardised rewards; columns of the paths that occur; a failed trial has the lowest
    reward of those that did not fail.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        initial: random architectures to begin with, 10 in the paper.
        batch: trials between two fits, 10 in the paper.
        candidates: mutants of which a batch is chosen.
        parents: number of the best architectures that are mutated.
        mutations: most decisions that a mutant changes, each number as likely.
        encoding: of architectures: "paths", "one_hot", or "auto" for paths where cells show every operation.
        features: names of scores without training of the fresh networks, which are further inputs of the predictors, on
            a logarithmic scale and standardised.
        acquisition: "its" (independent Thompson sampling), "ucb" (upper confidence bound), or "ei" (expected
            improvement).
        ensemble: number of predictors, 5 in the paper.
        hidden: units of both layers of a predictor.
        steps: optimisation steps of a fit, each on all trials.
        lr: learning rate of Adam.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: paths are asked for in a space whose cells do not show every operation, or fewer candidates than
            trials of a batch.
        ConfigError: ``features`` of networks of words, or "az_nas", which ranks a set of networks.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = Bananas(ToySpace(), trials=4, child=Child(epochs=1), initial=2, batch=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (4, 'toy')
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        initial: Count = 10,
        batch: Count = 10,
        candidates: Annotated[int, Interval(ge=1, le=100_000)] = 100,
        parents: Count = 2,
        mutations: Annotated[int, Interval(ge=1, le=100)] = 1,
        encoding: Literal["auto", "paths", "one_hot"] = "auto",
        features: Sequence[ProxyName] = (),
        acquisition: Literal["its", "ucb", "ei"] = "its",
        ensemble: Annotated[int, Interval(ge=1, le=100)] = 5,
        hidden: Width = 32,
        steps: Count = 60,
        lr: PositiveFloat = 0.01,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        if candidates < batch:
            raise ConfigError(f"strategy.candidates={candidates}: fewer than strategy.batch={batch}; legal: at least")
        shown = shows_operations(space, self.rng("shown", 0))
        if encoding == "paths" and not shown:
            raise ConfigError(
                f"strategy.encoding=paths: cells of {space.name} do not show every operation as an edge, so paths do "
                "not tell architectures apart; legal: auto, one_hot"
            )
        self.paths = encoding == "paths" or (encoding == "auto" and shown)
        self.features = self._legal(features)
        self.initial, self.batch, self.candidates, self.parents = initial, batch, candidates, parents
        self.mutations, self.acquisition = mutations, acquisition
        self.ensemble, self.hidden, self.steps, self.lr = ensemble, hidden, steps, lr
        self._queue = deque[tuple[Architecture, float | None]]()  # what is left of the batch, with the predictions
        self._columns: dict[Architecture, frozenset[Column]] = {}
        self._known_scores: dict[Architecture, list[float]] = {}  # of the features

    @property
    def blind(self) -> int:
        """The random architectures of the beginning."""
        return self.initial

    @property
    def most_begun_with(self) -> int:
        """The architectures of the beginning."""
        return self.initial

    @property
    def looks_at_data(self) -> bool:
        return super().looks_at_data or any(name not in OF_NETWORKS for name in self.features)

    def _legal(self, features: Sequence[ProxyName]) -> tuple[ProxyName, ...]:
        if features and not self.space.input_dtype.is_floating_point:
            raise ConfigError("strategy.features: scores are of networks of images, and these take words; legal: []")
        if "az_nas" in features:
            raise ConfigError(
                f"strategy.features: az_nas ranks a set of networks, so one network has none; legal: {', '.join(NAMED)}"
            )
        return tuple(features)

    def propose(self, number: int) -> Proposal | None:
        if not self._queue:
            if len(self.history) < number:
                return None  # the next batch learns from all trials
            self._queue.extend(self._chosen(number))
        if not self._queue:
            return None
        architecture, predicted = self._queue.popleft()
        return Proposal(architecture, {} if predicted is None else {"predicted": predicted})

    # -- a batch ------------------------------------------------------------------------------------------------

    def _chosen(self, number: int) -> list[tuple[Architecture, float | None]]:
        """The next batch, and the reward that was predicted of each."""
        rng = self.rng("batch", number)
        if not number:
            return [(architecture, None) for architecture in self.beginnings(self.initial, rng)]
        found = self._candidates(rng)
        worst = min((reward for trial, reward in self.history if not trial.failed), default=0.0)
        rewards = torch.tensor([max(reward, worst) for _, reward in self.history], dtype=torch.float64)
        if not found or len(set(rewards.tolist())) == 1:
            order = torch.randperm(len(found), generator=rng).tolist()
            return [(found[place], None) for place in order[: self.batch]]
        known = [trial.architecture for trial, _ in self.history]
        inputs = self.encoded(known + found)
        targets, centre, scale = standardised(rewards)
        predictors = fitted(
            inputs[: len(known)],
            targets,
            rng,
            members=self.ensemble,
            hidden=self.hidden,
            steps=self.steps,
            lr=self.lr,
        )
        predictions = predicted(predictors, inputs[len(known) :])
        scores = self._scores(predictions, targets.max().item(), rng)
        best = scores.argsort(descending=True, stable=True)[: self.batch].tolist()
        means = (predictions.mean(0).double() * scale + centre).tolist()
        return [(found[place], means[place]) for place in best]

    def _candidates(self, rng: torch.Generator) -> list[Architecture]:
        """Untried mutants of the best architectures; random ones where there are too few."""
        tried = {self.space.canonical(trial.architecture) for trial, _ in self.history}
        ranked = sorted(range(len(self.history)), key=lambda place: -self.rewards[place])
        forms = dict.fromkeys(self.space.canonical(self.history[place][0].architecture) for place in ranked)
        parents, found = list(forms)[: self.parents], dict[Architecture, None]()
        for _ in range(_TRIES * self.candidates):
            if len(found) == self.candidates:
                return list(found)
            mutant = parents[int(torch.randint(len(parents), (), generator=rng))]
            for _ in range(int(torch.randint(1, self.mutations + 1, (), generator=rng))):
                mutant = self.space.mutate(mutant, rng)
            if (form := self.space.canonical(mutant)) not in tried:
                found[form] = None
        if len(found) < self.batch:
            drawn = self.space.different(len(tried) + self.batch, rng)
            found |= dict.fromkeys(form for form in drawn if form not in tried)
        return list(found)

    def _scores(self, predictions: Tensor, best: float, rng: torch.Generator) -> Tensor:
        if self.acquisition == "ucb":
            return upper_confidence_bound(predictions)
        if self.acquisition == "ei":
            return expected_improvement(predictions, best)
        return independent_thompson(predictions, rng)

    def encoded(self, architectures: Sequence[Architecture]) -> Tensor:
        """(N, columns): 1 where an architecture has a path, or an option; then the features."""
        rows = [self._encode(architecture) for architecture in architectures]
        places = {column: place for place, column in enumerate(sorted(set[Column]().union(*rows)))}
        inputs = torch.zeros(len(rows), len(places))
        for row, columns in enumerate(rows):
            inputs[row, [places[column] for column in columns]] = 1
        return torch.cat([inputs, self._scored(architectures)], 1) if self.features else inputs

    def _scored(self, architectures: Sequence[Architecture]) -> Tensor:
        """(N, features): scores as rewards, standardised over these architectures; 0 where all are equal."""
        new = [architecture for architecture in dict.fromkeys(architectures) if architecture not in self._known_scores]
        if len(self._known_scores) + len(new) > _KEPT:
            self._known_scores.clear()
            new = list(dict.fromkeys(architectures))
        columns = [fresh_scores(name, self.space, new, self._data, self.task, self.seed) for name in self.features]
        for architecture, found in zip(new, zip(*columns, strict=True), strict=True):
            self._known_scores[architecture] = [as_reward(score) if math.isfinite(score) else 0.0 for score in found]
        scores = torch.tensor([self._known_scores[architecture] for architecture in architectures], dtype=torch.float64)
        off = scores - scores.mean(0)
        return (off / off.square().mean(0).sqrt().clamp_min(1e-12)).float()

    def _encode(self, architecture: Architecture) -> frozenset[Column]:
        if architecture not in self._columns:
            if len(self._columns) >= _KEPT:
                self._columns.clear()
            own = cell_paths(self.space, architecture) if self.paths else frozenset(architecture.choices)
            self._columns[architecture] = own
        return self._columns[architecture]

    # -- what is kept -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        queue = [(architecture.to_dict(), predicted) for architecture, predicted in self._queue]
        return {**super().state(), "queue": queue}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._queue = deque((Architecture.from_dict(content), predicted) for content, predicted in state["queue"])


# -- paths ------------------------------------------------------------------------------------------------------


def cell_paths(space: SearchSpace, architecture: Architecture) -> frozenset[Column]:
    """The paths of all cells: the cell, the input, and the operations from there to the output, in order.

    Example:
        >>> from lightning_nas.spaces.nasbench201.space import NASBench201Space
        >>> space = NASBench201Space()
        >>> a = space.from_string("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
        >>> sorted(path[2:] for path in cell_paths(space, a))
        [('nor_conv_3x3', 'avg_pool_3x3', 'nor_conv_1x1'), ('skip_connect',)]
    """
    return frozenset((name, *path) for name, graph in space.cell_graphs(architecture).items() for path in _paths(graph))


def _paths(graph: CellGraph) -> Iterator[Column]:
    """The input and the operations of the paths of a cell, short ones first; edges without a choice add nothing."""
    waiting = deque[tuple[str, Column]]((node, (node,)) for node, degree in graph.in_degree() if not degree)
    for _ in range(_LOOKS):
        if not waiting:
            return
        node, path = waiting.popleft()
        if graph.in_degree(node) and not graph.out_degree(node):
            yield path
        for _, after, operation in graph.out_edges(node, data="label"):
            if operation != _NOTHING:
                waiting.append((after, (*path, operation) if operation else path))


def shows_operations(space: SearchSpace, generator: torch.Generator) -> bool:
    """Whether the edges of cells hold every chosen option, except for those that number or name nodes."""
    architecture = space.sample(generator)
    shown = {o for graph in space.cell_graphs(architecture).values() for _, _, o in graph.edges(data="label")}
    wiring = {decision.name for decision in space.decisions if decision.refers}
    chosen = [option for name, option in architecture.choices if name not in wiring]
    return bool(shown) and shown.issuperset(o for o in chosen if not o.replace(",", "").isdecimal())


# -- predictors -------------------------------------------------------------------------------------------------


def standardised(rewards: Tensor) -> tuple[Tensor, float, float]:
    """Rewards (N,) with mean 0 and deviation 1 in float32; the mean and the deviation that they had."""
    centre, scale = rewards.mean(), rewards.std()
    return ((rewards - centre) / scale).float(), centre.item(), scale.item()


def fitted(
    inputs: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    *,
    members: int,
    hidden: int,
    steps: int,
    lr: float,
) -> list[Tensor]:
    """Parameters of an ensemble fitted with Adam to squared errors; the members differ in their initial weights.

    Args:
        inputs: (N, columns).
        targets: (N,).
        generator: of the initial weights.
        members: E, the first axis of all parameters.
        hidden: units of both hidden layers.
        steps: optimisation steps.
        lr: learning rate.
    """
    parameters = list[Tensor]()
    for width, following in pairwise((inputs.shape[1], hidden, hidden, 1)):
        weight = torch.empty(members, width, following)
        nn.init.uniform_(weight, -(width**-0.5), width**-0.5, generator=generator)
        parameters += [weight.requires_grad_(), torch.zeros(members, 1, following, requires_grad=True)]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            error = (_forward(parameters, inputs) - targets).square().mean(1).sum()
            error.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return parameters


@torch.no_grad()
def predicted(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """(E, N) predictions of inputs (N, columns)."""
    return _forward(parameters, inputs)


def _forward(parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    x = inputs.expand(len(parameters[0]), -1, -1)
    *layers, last, shift = parameters
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        x = torch.baddbmm(bias, x, weight).relu()
    return torch.baddbmm(shift, x, last).squeeze(-1)
