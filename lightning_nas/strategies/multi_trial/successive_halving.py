"""Successive halving (Jamieson and Talwalkar, AISTATS 2016, arXiv:1502.07943).

Random architectures are trained for a few epochs; the best share of 1 / eta of them is trained on to the next rung, a
larger number of epochs, and so on to the last rung. Then a new bracket begins with other architectures, for as many
trials as there are. A trial is one part of a training: it begins a training, or goes on where an earlier trial paused.

The schedule of the learning rate is that of the whole training (``child.epochs``), so a training in parts equals one
without pauses, to the bit.

Differs from the paper: rungs are given as epochs, and the share is 1 / eta as in Hyperband instead of one half. No
architecture begins twice. A child that failed is not trained on. The answer is the best figure of any rung, as in the
paper of ASHA.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Unpack

from annotated_types import Interval, Len

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count, Epochs
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.multi_trial.children import usual_child
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal
from lightning_nas.trials.child import Child
from lightning_nas.trials.judge import Judge

Rungs = Annotated[Sequence[Epochs], Len(2, 20)]
"""Epochs of a training, counted from its beginning, after which it may pause."""

Eta = Annotated[int, Interval(ge=2, le=1000)]
"""Of so many trainings one goes on to the next rung."""


def check_rungs(rungs: Sequence[int], epochs: int, patience: int | None) -> None:
    """Refuse rungs that do not go with a training.

    Args:
        rungs: of the search.
        epochs: of a whole training.
        patience: of a training; it cannot end early as well.

    Raises:
        ConfigError: they are longer than a training, or it has patience.
    """
    if patience is not None:
        raise ConfigError(f"child.patience={patience}: a training in parts pauses at its rungs; legal: null")
    if max(rungs) > epochs:
        raise ConfigError(
            f"strategy.rungs={list(rungs)}: a training has child.epochs={epochs}; legal: rungs of at most as many, or "
            f"child.epochs={max(rungs)}"
        )


class RungSearch(TrialSearch):
    """Base class of searches that train in parts.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        rungs: epochs after which a training pauses, rising; the last is at most the epochs of a whole training.
        eta: one in eta trainings goes on.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: rungs do not rise, are longer than a training or not in the table, or ``median_stop`` is set.
    """

    keeps_weights = True

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        rungs: Rungs = (1, 3, 9),
        eta: Eta = 3,
        **options: Unpack[TrialOptions],
    ) -> None:
        self.rungs, self.eta = tuple(rungs), eta  # usual_child needs them
        super().__init__(space, task, table, **options)
        if any(later <= earlier for earlier, later in pairwise(self.rungs)):
            raise ConfigError(f"strategy.rungs={list(rungs)}: legal are epochs that rise, e.g. [1, 3, 9]")
        if self.median_stop:
            raise ConfigError("strategy.median_stop: this search ends children at its rungs; leave it out")
        if self._engine is None:
            self.check_judge(type(self._child))
            assert isinstance(self._child, Child)
            check_rungs(self.rungs, self._child.epochs, self._child.patience)
        lengths = None if self._engine is None else self._engine.lengths
        if lengths is not None and not set(lengths).issuperset(self.rungs):
            raise ConfigError(
                f"strategy.rungs={list(rungs)}: this engine has results after {', '.join(map(str, lengths))} epochs "
                f"alone; set strategy.rungs={list(lengths)}"
            )

    @classmethod
    def check_judge(cls, judge: type | None) -> None:
        if judge is not None and not issubclass(judge, Child):
            raise ConfigError(f"child: {judge.__name__} trains nothing in parts; legal: child=halving or default")

    @classmethod
    def check_child(cls, settings: Mapping[str, Any], child: Mapping[str, Any]) -> None:
        if "epochs" in child:
            check_rungs(settings["rungs"], child["epochs"], child.get("patience"))

    def usual_child(self) -> Judge:
        """The usual training, as long as the last rung."""
        return usual_child(self.task, max(self.rungs))

    def begun(self, architecture: Architecture, **info: Any) -> Proposal:
        """The first part of a training."""
        return Proposal(architecture, {**info, "rung": 0}, epochs=self.rungs[0])

    def continued(self, place: int, **info: Any) -> Proposal:
        """The next part of the training of a trial of the history."""
        trial = self.history[place][0]
        info |= {"rung": trial.info["rung"] + 1, "continues": trial.number}
        return Proposal(trial.architecture, info, epochs=self.rungs[info["rung"]], continues=trial.number)

    def best(self, places: Sequence[int], count: int) -> list[int]:
        """The ``count`` places with the highest rewards without the failed ones; of equal ones the first proposed."""
        alive = [(-reward, trial.number, p) for p in places for trial, reward in [self.history[p]] if not trial.failed]
        return [place for *_, place in sorted(alive)[:count]]


class SuccessiveHalving(RungSearch):
    r"""Successive halving: of :math:`n_i` trainings, the best :math:`n_{i+1}` go on to the next rung.

    .. math:: n_i = \lfloor n \eta^{-i} \rfloor, \qquad
              \text{epochs of a bracket} = \sum_i n_i (r_i - r_{i-1}), \qquad r_{-1} = 0

    Source: Jamieson and Talwalkar, AISTATS 2016, arXiv:1502.07943, algorithm 1, with :math:`\eta` as in algorithm 1 of
    Li et al., arXiv:1810.05934. Deviations: rungs :math:`r_i` are given as epochs; brackets follow each other with new
    architectures; a failed trial is not trained on.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        initial: trainings that begin in a bracket, n.
        rungs: epochs after which a training pauses, rising; the last is at most the epochs of a whole training.
        eta: one in eta trainings goes on.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: too few trainings for the last rung, rungs that do not rise, are longer than a training or not in
            the table, or ``median_stop`` is set.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = SuccessiveHalving(ToySpace(), trials=6, child=Child(epochs=3), initial=4, rungs=(1, 3), eta=2)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> [trial.epochs for trial, _ in search.history]
        [1, 1, 1, 1, 3, 3]
    """

    defaults: ClassVar[TrialOptions] = {"trials": 26}  # two brackets

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        initial: Count = 9,
        rungs: Rungs = (1, 3, 9),
        eta: Eta = 3,
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, rungs=rungs, eta=eta, **SuccessiveHalving.defaults | options)
        least = eta ** (len(self.rungs) - 1)
        if initial < least:
            raise ConfigError(f"strategy.initial={initial}: none reaches the last rung; legal: at least {least}")
        self.initial = initial
        self.bracket = 0
        self._began = 0  # place in the history where the rung began
        self._queue = deque[Architecture | int]()  # of the rung: architectures to begin, places to go on from

    @property
    def most_begun_with(self) -> int:
        """The first bracket."""
        return self.initial

    def propose(self, number: int) -> Proposal | None:
        if not self._queue:
            if len(self.history) < number:
                return None  # the rung is not over
            self._queue.extend(self._next(number))
            self._began = number
        if not self._queue:
            return None
        first = self._queue.popleft()
        if isinstance(first, int):
            return self.continued(first, bracket=self.bracket)
        return self.begun(first, bracket=self.bracket)

    def _next(self, number: int) -> list[Architecture] | list[int]:
        """The trainings of the next rung: places of the survivors, or architectures of a new bracket."""
        if number and self.history[-1][0].info["rung"] + 1 < len(self.rungs):
            rung = range(self._began, number)
            if survivors := self.best(rung, len(rung) // self.eta):
                return survivors
        self.bracket += 1
        return self.fresh(self.initial, number)

    def fresh(self, count: int, number: int) -> list[Architecture]:
        """Architectures that begin a bracket; fewer than ``count`` where the space has no others."""
        begun = {self.space.canonical(trial.architecture) for trial, _ in self.history}
        drawn = self.beginnings(count + len(begun), self.rng("bracket", number))
        return [architecture for architecture in drawn if architecture not in begun][:count]

    def state(self) -> dict[str, Any]:
        queue = [entry if isinstance(entry, int) else entry.to_dict() for entry in self._queue]
        return {**super().state(), "bracket": self.bracket, "began": self._began, "queue": queue}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.bracket, self._began = state["bracket"], state["began"]
        self._queue = deque(e if isinstance(e, int) else Architecture.from_dict(e) for e in state["queue"])
