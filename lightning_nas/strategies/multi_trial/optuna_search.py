"""Any sampler of Optuna (Akiba et al., KDD 2019, arXiv:1907.10902), for one objective or for two.

Each decision is a categorical parameter, asked for when it comes up ("define by run"), so that what is not decided in
an architecture is no parameter of its trial; one whose legal options are not always the same is a parameter for each
set of them. The reward is maximised. With ``minimize_cost`` the latency table's cost is minimised beside it, and the
report draws the Pareto front. With ``limit`` the sampler is told by how much a cost exceeds it, as a constraint.

The answer is the best reward, among equal ones the cheapest: the costly end of the Pareto front. With ``limit`` it is
the best of what keeps the limit.

TPE is ``sampler=tpe``, NSGA-II ``sampler=nsga2``; any class of ``optuna.samplers`` that takes a seed goes by its name
without "Sampler", its arguments as ``sampler_options``.

Differs from the paper: a sampler is made anew for each trial, seeded by the trial's number, so that what it proposes
is a function of the seed and the trials so far, and a search resumes exactly; one that remembers more than its trials
forgets it. Optuna prunes nothing. A failed child counts as a trial with the worst reward, but of two objectives, where
a cheap one would stand on the front: there Optuna is told that it failed, and its samplers leave it out.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack

from lightning_utilities.core.rank_zero import rank_zero_warn
from pydantic import PositiveFloat

from lightning_nas.architecture import Architecture, Decision
from lightning_nas.errors import ConfigError, NasError, NumericalError, shown
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch, named
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.strategies.target import Limit, Target
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator, mix
from lightning_nas.trials.book import Trial

_TRIED = 30  # random architectures before the cheapest is looked for, which takes longer

_FIRST = ("n_startup_trials", "population_size")  # arguments of samplers: trials at random, or of a first generation


class OptunaSearch(TrialSearch):
    r"""Search by a sampler of Optuna, for accuracy or for accuracy and cost.

    .. math:: \max_a R(a) \quad \text{or} \quad \max_a R(a),\ \min_a \mathrm{cost}(a), \qquad
              \mathrm{cost}(a) \le \mathrm{limit}

    Each decision is a categorical parameter, asked for when it comes up ("define by run"). A sampler with nothing left
    to try (bruteforce, grid) ends the search before ``trials``.

    Source: Akiba et al., KDD 2019, arXiv:1907.10902, section 2. Deviations: a sampler is made anew for each trial, from
    a seed and the number of the trial, so that a search resumes exactly.

    Args:
        space: any search space.
        task: loss and metrics; None for classification of images and language modelling of text.
        table: cost of each operation; needed by ``minimize_cost`` and ``limit``.
        sampler: tpe, nsga2, nsga3, random, gp, qmc, bruteforce, ...
        sampler_options: arguments of its class but the seed.
        minimize_cost: minimise the cost as a second objective.
        limit: upper bound of the cost of the answer, in the unit of the table; None for no bound.
        start: the first trials, names of the zoo or files.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`.

    Attributes:
        exhausted: whether the sampler has nothing left to try.

    Raises:
        ConfigError: Optuna is not installed or has no such sampler or argument; the table is missing; or the limit is
            below the cheapest architecture.
        InvalidArchitecture: a start that is not of the space, or is not found.

    Example:
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> from lightning_nas.trials.child import Child
        >>> search = OptunaSearch(ToySpace(), trials=4, child=Child(epochs=1))
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
        sampler: str = "tpe",
        sampler_options: Mapping[str, Any] | None = None,
        minimize_cost: bool = False,
        limit: PositiveFloat | None = None,
        start: Sequence[str] = (),
        **options: Unpack[TrialOptions],
    ) -> None:
        super().__init__(space, task, table, **options)
        if table is None and (minimize_cost or limit is not None):
            raise ConfigError(
                "strategy.minimize_cost and strategy.limit need to know what operations cost; "
                "choose latency_table=measured, macs, params or file"
            )
        self._optuna = _installed()
        self._class, self._options = _sampler(self._optuna, sampler), dict(sampler_options or {})
        self._check(sampler)
        self.minimize_cost, self.limit = minimize_cost, limit
        if limit is not None:
            self._check_limit(limit)
        self.start = [named(name, space) for name in start]
        directions = ["maximize", "minimize"] if minimize_cost else ["maximize"]
        storage = self._optuna.storages.InMemoryStorage()
        self.study: Any = self._optuna.create_study(storage=storage, directions=directions)
        self.study.stop = self._exhaust  # a sampler without anything left to try calls it, in a loop of Optuna's own
        self.exhausted = False

    def _exhaust(self) -> None:
        self.exhausted = True

    @property
    def blind(self) -> int:
        """What the sampler draws at random at the beginning, or its first generation."""
        usual = {name: argument.default for name, argument in inspect.signature(self._class).parameters.items()}
        return next((int(self._options.get(name, usual[name])) for name in _FIRST if name in usual), 0)

    def propose(self, number: int) -> Architecture | None:
        if self.exhausted:
            return None
        with self._sampling("propose", number):
            if number < len(given := [*self.start, *self.warm]):
                self.study.enqueue_trial(self._fixed(given[number]))
            return self._asked()

    def _fixed(self, architecture: Architecture) -> dict[str, str]:
        """The parameters of an architecture in the study."""
        parameters, choices = dict[str, str](), dict[str, str]()
        for decision in self.space.decisions:
            if legal := self.space.options(decision, choices):
                choices[decision.name] = architecture[decision.name]
                parameters[_parameter(decision, legal)] = choices[decision.name]
        return parameters

    def _asked(self) -> Architecture:
        trial = self.study.ask()
        choices: dict[str, str] = {}
        for decision in self.space.decisions:
            if legal := self.space.options(decision, choices):
                alone = len(legal) == 1
                choices[decision.name] = (
                    legal[0] if alone else trial.suggest_categorical(_parameter(decision, legal), legal)
                )
        architecture = self.space.validate(choices)
        if self.limit is not None:
            trial.set_constraint("cost", self._cost(architecture) - self.limit)
        return architecture

    def learn(self, trial: Trial, reward: float) -> None:
        with self._sampling("learn", trial.number):
            if values := self._values(trial, reward):
                self.study.tell(trial.number, values)
            else:
                self.study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    @contextmanager
    def _sampling(self, stream: str, number: int) -> Iterator[None]:
        """Give the study a new sampler inside.

        Raises:
            ConfigError: the sampler fails.
        """
        self.study.sampler = self._fresh(stream, number)
        try:
            yield
        except NasError:
            raise
        except Exception as reason:
            name, said = type(self.study.sampler).__name__, shown(str(reason), 200)
            raise ConfigError(f"strategy.sampler: {name} gives up at trial {number}: {said}") from reason

    @property
    def answer_rule(self) -> str:
        if not self.minimize_cost and self.limit is None:
            return super().answer_rule
        within = "" if self.limit is None else f" of the trials that cost at most {self.limit:g}"
        return f"the highest reward{within}; among equal ones the cheapest"

    def answer(self) -> Architecture:
        best = super().answer()
        if not self.minimize_cost and self.limit is None:
            return best
        known = [
            (trial.architecture, reward)
            for trial, reward in self.history
            if not trial.failed and (self.target is None or self.target.keeps(trial.architecture))
        ]
        if not known:
            return best
        limit = float("inf") if self.limit is None else self.limit
        legal = [(reward, -self._cost(taken), taken) for taken, reward in known if self._cost(taken) <= limit]
        if not legal:
            cheapest = min(self._cost(taken) for taken, _ in known)
            raise NumericalError(
                f"none of {len(known)} trials kept strategy.limit={self.limit:g}; the cheapest costs {cheapest:g}"
            )
        return max(legal, key=lambda entry: entry[:2])[2]

    def log_search(self) -> None:
        if self.minimize_cost:
            self.log_batch("front/size", float(len(self.study.best_trials)))

    # -- samplers -----------------------------------------------------------------------------------------------

    def _fresh(self, stream: str, number: int) -> Any:
        return self._class(seed=mix(self.seed, stream, number) % 2**32, **self._options)

    def _check(self, name: str) -> None:
        legal = [argument for argument in inspect.signature(self._class).parameters if argument != "seed"]
        if unknown := [option for option in self._options if option not in legal]:
            raise ConfigError(
                f"strategy.sampler_options: {name} has no {shown(unknown[0])}; legal: {', '.join(legal) or 'none'}"
            )
        try:
            self._fresh("check", 0)
        except (TypeError, ValueError, ImportError) as reason:
            raise ConfigError(f"strategy.sampler_options: {name} refuses them: {shown(str(reason), 200)}") from reason

    def _check_limit(self, limit: float) -> None:
        """Refuse a limit below the cheapest, where that is known; else warn if chance does not find one within."""
        assert self.table is not None
        asked = Limit("strategy.limit", limit, limit, self.table.unit, self.table)
        if isinstance(self.space, WeightSharingSpace):
            Target(self.space, [asked], self.seed)
            return
        rng = generator(self.seed, "limit")
        drawn = min(self._cost(self.space.sample(rng)) for _ in range(_TRIED))
        if drawn > limit:
            rank_zero_warn(f"{asked}: the cheapest of {_TRIED} random architectures costs {drawn:.6g} {asked.unit}")

    def _values(self, trial: Trial, reward: float) -> list[float] | None:
        """Values of a trial for Optuna; None for a trial that it leaves out."""
        if not self.minimize_cost:
            return [reward]
        return None if trial.failed else [reward, self._cost(trial.architecture)]

    def _cost(self, architecture: Architecture) -> float:
        cost = self.cost(architecture)
        assert cost is not None
        return cost

    # -- what is kept -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Parameters and attributes of the trials of Optuna, and attributes of its study, as JSON."""
        asked = [
            {
                "params": dict(trial.params),
                "choices": {name: list(of.choices) for name, of in trial.distributions.items()},
                "attributes": dict(trial.system_attrs),
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]
        attributes = self.study._storage.get_study_system_attrs(self.study._study_id)
        return {**super().state(), "asked": asked, "study": dict(attributes), "exhausted": self.exhausted}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.exhausted = state.get("exhausted", False)
        told = {trial.number: self._values(trial, reward) for trial, reward in self.history}
        failed = {trial.number for trial, _ in self.history if trial.failed}
        states, categorical = self._optuna.trial.TrialState, self._optuna.distributions.CategoricalDistribution
        for number, known in enumerate(state["asked"]):
            values = told.get(number)
            trial = self._optuna.trial.create_trial(
                state=states.COMPLETE if values else states.FAIL if number in failed else states.RUNNING,
                values=values,
                params=known["params"],
                distributions={name: categorical(choices) for name, choices in known["choices"].items()},
                system_attrs=known["attributes"],
            )
            self.study.add_trial(trial)
        for key, value in state["study"].items():
            self.study._storage.set_study_system_attr(self.study._study_id, key, value)


def _installed() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise ConfigError("strategy=optuna needs Optuna: pip install lightning_nas[optuna]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, name: str) -> Any:
    """The sampler class of this name, among those with a seed."""
    known = {}  # without CMA-ES, which handles numbers only and would draw choices at random
    for public in optuna.samplers.__all__:
        made = getattr(optuna.samplers, public)
        if public != "CmaEsSampler" and inspect.isclass(made) and "seed" in inspect.signature(made).parameters:
            known[public.removesuffix("Sampler").lower().replace("iii", "3").replace("ii", "2")] = made
    if name not in known:
        raise ConfigError(f"strategy.sampler={shown(name)}: Optuna has {', '.join(sorted(known))}")
    return known[name]


def _parameter(decision: Decision, legal: Sequence[str]) -> str:
    """Name of a decision in the study, where a name always has the same options."""
    return decision.name if tuple(legal) == decision.options else f"{decision.name} of {', '.join(legal)}"
