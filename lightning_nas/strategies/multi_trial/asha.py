"""ASHA, asynchronous successive halving (Li et al., MLSys 2020, arXiv:1810.05934).

Whenever a child can be trained: from the highest rung down, a training that is among the best 1 / eta of its rung goes
on to the next one; if there is none, another random architecture begins. Nobody waits for a rung to be full. Rungs and
trainings in parts are those of successive halving.

Differs from the paper: no architecture begins twice. With ``ordered`` results are learned from in the order of
proposals, which makes a search equal on every machine. A child that failed counts in its rung and is not trained on.
"""

from __future__ import annotations

from typing import Any, Unpack

from lightning_nas.architecture import Architecture
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.successive_halving import Eta, Rungs, RungSearch
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal, Trial

_TRIES = 100  # random architectures, until one has not begun


class ASHA(RungSearch):
    r"""Asynchronous successive halving: whoever is among the best of a rung goes on at once.

    .. math:: \text{promotable}_k = \mathrm{top}(\text{rung}_k, \lfloor |\text{rung}_k| / \eta \rfloor) \setminus
              \text{promoted}_k

    Source: Li et al., MLSys 2020, arXiv:1810.05934, algorithm 2. Deviations: no architecture begins twice; results are
    learned from in the order of proposals unless ``ordered=False``; a failed trial counts in its rung and is not
    trained on. The search ends early where nothing can go on and no other architecture is found.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation, for logging.
        rungs: epochs after which a training pauses, rising; the last is at most the epochs of a whole training.
        eta: one in eta trainings goes on.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Raises:
        ConfigError: rungs that do not rise, are longer than a training or not in the table, or ``median_stop`` is set.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = ASHA(ToySpace(), trials=6, child=Child(epochs=3), rungs=(1, 3), eta=2, in_flight=1)
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> [trial.epochs for trial, _ in search.history]
        [1, 1, 3, 1, 1, 3]
    """

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
        super().__init__(space, task, table, rungs=rungs, eta=eta, **options)
        self.filled: list[list[int]] = [[] for _ in self.rungs]  # places in the history, by rung
        self._promoted: set[int] = set()  # numbers of the trials that went on
        self._open: dict[int, Architecture] = {}  # that have begun and not ended

    def propose(self, number: int) -> Proposal | None:
        for rung in reversed(self.filled[:-1]):
            for place in self.best(rung, len(rung) // self.eta):
                trial = self.history[place][0]
                if trial.number not in self._promoted:
                    self._promoted.add(trial.number)
                    return self.continued(place)
        rng, running = self.rng("propose", number), set(self._open.values())
        begun = len(self.filled[0]) + len(self._open)
        for tries in range(_TRIES):
            drawn = self.space.canonical(self.space.sample(rng) if tries else self.beginning(begun, rng))
            if drawn not in running and self.book.place(drawn) is None:
                self._open[number] = drawn
                return self.begun(drawn)
        return None

    def learn(self, trial: Trial, reward: float) -> None:
        self._open.pop(trial.number, None)
        self.filled[trial.info["rung"]].append(len(self.history) - 1)

    def state(self) -> dict[str, Any]:
        running = [(number, architecture.to_dict()) for number, architecture in self._open.items()]
        return {**super().state(), "filled": self.filled, "promoted": sorted(self._promoted), "running": running}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.filled = [self.places(rung) for rung in state["filled"]]
        self._promoted = set(state["promoted"])
        self._open = {number: Architecture.from_dict(content) for number, content in state["running"]}
