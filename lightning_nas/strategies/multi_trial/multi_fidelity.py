"""Local search on a figure without training, then halving (arXiv:1502.07943): MF-NAS (Phan and Luong, GECCO 2024).

Local search with restarts looks for the architecture with the most parameters, or multiply-adds, which costs no
training. The n architectures with the highest figures of all that it looked at begin a bracket of successive halving.
Within a target of the answer's cost only architectures that keep it count.

Differs from the paper: figures are sums over a table of operations; scores of networks without training, which the
paper compares, are left to ``strategy=proxy``. With more trials than one bracket the next one begins with the next
architectures in the order of the figure.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Unpack

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.latency.sources import Macs, Params
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.successive_halving import Eta, Rungs, SuccessiveHalving
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task

_IDLE = 20  # restarts without anything new, after which the space is held to be seen


class MultiFidelity(SuccessiveHalving):
    r"""Local search on parameters or multiply-adds, then successive halving of the best.

    .. math:: \{a_1, \dots, a_n\} = \mathrm{top}_n \{ s(a) : a \text{ seen by local search on } s \}, \qquad
              n_i = \lfloor n \eta^{-i} \rfloor

    Source: Phan and Luong, GECCO 2024, with successive halving of arXiv:1502.07943. Deviations: see the text of this
    module; the figure s is a sum over operations.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        figure: "params" or "macs", of which more is better.
        looks: architectures whose figure the local search looks at before each bracket.
        initial: trainings that begin in a bracket, n.
        rungs: epochs after which a training pauses, rising; the last is at most the epochs of a whole training.
        eta: one in eta trainings goes on.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: as of :class:`~lightning_nas.strategies.multi_trial.successive_halving.SuccessiveHalving`.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = MultiFidelity(ToySpace(), trials=3, child=Child(epochs=2), initial=2, rungs=(1, 2), eta=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> str(search.history[0][0].architecture)
        'keep keep'
    """

    defaults: ClassVar[TrialOptions] = {"trials": 13}  # one bracket

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        figure: Literal["params", "macs"] = "params",
        looks: Count = 1000,
        initial: Count = 9,
        rungs: Rungs = (1, 3, 9),
        eta: Eta = 3,
        **options: Unpack[TrialOptions],
    ) -> None:
        options = MultiFidelity.defaults | options
        super().__init__(space, task, table, initial=initial, rungs=rungs, eta=eta, **options)
        self.looks = looks
        self._figures = (Params() if figure == "params" else Macs())(space)

    @property
    def most_begun_with(self) -> int:
        """None: the figure chooses."""
        return 0

    def fresh(self, count: int, number: int) -> list[Architecture]:
        begun = {self.space.canonical(trial.architecture) for trial, _ in self.history}
        seen = self.seen(self.rng("figures", number))
        return sorted((a for a in seen if a not in begun and seen[a] > -math.inf), key=lambda a: -seen[a])[:count]

    def seen(self, rng: torch.Generator) -> dict[Architecture, float]:
        """What local search looks at, with its figures, in the order in which it does: first improvement, restarts."""
        figures, idle = dict[Architecture, float](), 0
        while len(figures) < self.looks and idle < _IDLE:
            before = len(figures)
            centre: Architecture | None = self.space.canonical(self.space.sample(rng))
            while centre is not None and len(figures) < self.looks:
                centre = self._better(centre, figures, rng)
            idle = 0 if len(figures) > before else idle + 1
        return figures

    def _better(
        self, centre: Architecture, figures: dict[Architecture, float], rng: torch.Generator
    ) -> Architecture | None:
        """The first neighbour with a higher figure, in a random order; None at a local optimum."""
        standing = self._figure(centre, figures)
        around = self.space.neighbours(centre, rng)
        for place in torch.randperm(len(around), generator=rng).tolist():
            neighbour = self.space.canonical(around[place])
            if self._figure(neighbour, figures) > standing:
                return neighbour
            if len(figures) >= self.looks:
                return None
        return None

    def _figure(self, architecture: Architecture, figures: dict[Architecture, float]) -> float:
        if architecture not in figures:
            kept = self.target is None or self.target.keeps(architecture)
            figures[architecture] = self.space.cost(architecture, self._figures) if kept else -math.inf
        return figures[architecture]
