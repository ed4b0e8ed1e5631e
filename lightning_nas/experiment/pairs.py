"""Parts that cannot work together, refused before any data are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.errors import ConfigError
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.judge import Judge

_SHARED = (ArchitectureLogger, RankCheck, SearchHealth)
_AUTOMATIC = "it works with one optimiser that Lightning steps, and a search steps its own"
_ELSEWHERE = {
    "StochasticWeightAveraging": f"{_AUTOMATIC}; retrain.average_after averages the weights of the answer",
    "WeightAveraging": "it replaces the shared weights by their mean; retrain.average_after averages the answer's",
    "GradientAccumulationScheduler": f"{_AUTOMATIC}; use strategy.accumulate=",
    "BatchSizeFinder": f"{_AUTOMATIC}; set dataset.batch_size=",
    "LearningRateFinder": f"{_AUTOMATIC}; set strategy.weights_optimizer.lr=",
    "ModelPruning": "it changes the shared weights that the search compares",
    "BaseFinetuning": _AUTOMATIC,
    "BasePredictionWriter": "a run predicts nothing",
}
"""Lightning's callbacks that cannot work in a search, by class, and why."""


@dataclass(frozen=True)
class Parts:
    """The classes of a run's parts, known before one of them is made.

    Attributes:
        strategy: of the search.
        space: of the networks.
        space_name: for messages.
        engine: trains the candidates, or looks them up; None for a search that shares weights.
        child: whether it is said how candidates are trained.
        child_named: the training of candidates that was asked for by name, if any.
        judge: the class that trains or scores candidates, if any.
        callbacks: by name.
    """

    strategy: type
    space: type
    space_name: str
    engine: type | None = None
    child: bool = False
    child_named: str | None = None
    judge: type | None = None
    callbacks: Mapping[str, type] = field(default_factory=dict)

    @property
    def trains_children(self) -> bool:
        """Whether the strategy trains each candidate on its own, without shared weights."""
        return issubclass(self.strategy, TrialSearch)

    @property
    def looks_up(self) -> bool:
        """Whether results come from a table, so that no network sees the data during the search."""
        return self.engine is not None and issubclass(self.engine, Engine) and self.engine.instant

    def check(self) -> None:
        """Refuse a combination that cannot work.

        Raises:
            ConfigError: a strategy that shares weights on a space without a supernet, or with an engine; one that
                trains candidates without an engine or a training for them, with a training where they are looked up,
                or with callbacks that look at shared weights; scores of images for networks of words, or a
                training where a score is searched on; a callback of Lightning's that cannot work in a search.
        """
        for name, callback in self.callbacks.items():
            for kind in callback.__mro__:
                if kind.__name__ in _ELSEWHERE and kind.__module__.startswith("pytorch_lightning."):
                    raise ConfigError(f"callbacks.{name}: {callback.__name__} is refused: {_ELSEWHERE[kind.__name__]}")
        if not self.trains_children:
            self._check_sharing()
            return
        if self.engine is None or not (self.child or self.looks_up):
            raise ConfigError(
                "this strategy trains children: it needs engine=local, serial or ray with child=default, or "
                "engine=table"
            )
        if self.looks_up and self.child_named:
            raise ConfigError(
                f"child={self.child_named}: this engine trains nothing, it looks results up; leave it out"
            )
        assert issubclass(self.strategy, TrialSearch)
        self.strategy.check_judge(self.judge)
        if self.judge is not None and issubclass(self.judge, Judge) and self.judge.images_only and self._reads_words:
            raise ConfigError(
                f"child: {self.judge.__name__} scores networks of images, and those of search_space={self.space_name} "
                "take words; choose a space of images, or child=default"
            )
        for name, callback in self.callbacks.items():
            if issubclass(callback, _SHARED):
                raise ConfigError(
                    f"callbacks.{name} looks at shared weights, this strategy has none; use callbacks=trials"
                )

    @property
    def _reads_words(self) -> bool:
        return issubclass(self.space, SearchSpace) and not self.space.input_dtype.is_floating_point

    def _check_sharing(self) -> None:
        if not issubclass(self.space, WeightSharingSpace):
            raise ConfigError(
                f"this strategy shares weights and search_space={self.space_name} has no supernet; choose a space that "
                "has one, e.g. fbnet_small, or a strategy that trains every architecture, e.g. evolution"
            )
        if self.engine or self.child:
            raise ConfigError("engine, child: this strategy trains no children; leave them out")
