"""Search on a score without training (Abdelfattah, Mehrotra, Dudziak and Lane, ICLR 2021, arXiv:2101.08134).

Regularized evolution, or random sampling, proposes architectures; each is scored on one batch, which takes
milliseconds, and the highest score is the answer. Any score of :mod:`lightning_nas.proxies` can be searched on.

Differs from the paper: the paper takes the score to warm up and to guide searches that train children, and lets several
scores vote. Here the score alone decides. The default score is logsynflow, which is newer than the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, ClassVar, Literal, Unpack

from lightning_nas.architecture import Architecture
from lightning_nas.errors import ConfigError
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ranges import Count
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.strategies.options import TrialOptions
from lightning_nas.tasks.base import Task
from lightning_nas.trials.book import Proposal
from lightning_nas.trials.judge import Judge
from lightning_nas.trials.proxy_child import ProxyChild, score_of
from lightning_nas.trials.training_losses import TrainingLosses

JUDGES = "child=proxy with proxy=NAME, or child=epochs_k"


class ProxySearch(RegularizedEvolution):
    r"""Search on a score without training: seconds instead of hours.

    .. math:: a^* = \arg\max_{a \in \{a_1, \dots, a_n\}} s(f_a, B)

    for a score s of the fresh network :math:`f_a` on a batch B. A score that ranks a whole space well may say nothing
    among the best architectures, see ``docs/methods/proxy.md``; compare its answer with that of ``macs``.

    Source: Abdelfattah et al., ICLR 2021, arXiv:2101.08134, section 3. Deviations: the score alone decides; there it
    warms up and guides searches that train children.

    Args:
        space: any search space of image networks.
        task: loss and metrics; None for classification.
        table: cost of each operation, for logging and targets.
        proposals: "evolution", see
            :class:`~lightning_nas.strategies.multi_trial.regularized_evolution.RegularizedEvolution`; or "random".
        population: number of members of the evolution.
        sample: members drawn for a tournament.
        ageing: remove the oldest member; False removes the worst of the sample.
        start: the first members, names of the zoo or files; the others are drawn.
        options: of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`; ``child`` chooses the score.

    Raises:
        ConfigError: fewer trials than members, more members to start with, or a ``child`` that trains and validates.
        InvalidArchitecture: a start that is not of the space, or is not found.

    Example:
        >>> from lightning_nas.proxies.size import Macs
        >>> from lightning_nas.testing.toys import ToyData, ToySpace
        >>> from lightning_nas.training.network import quiet_trainer
        >>> search = ProxySearch(ToySpace(), trials=20, child=ProxyChild(proxy=Macs()))
        >>> quiet_trainer(1).fit(search, datamodule=ToyData(304, val_fraction=0.15))
        >>> len(search.history), search.answer().space
        (20, 'toy')
    """

    judges: ClassVar = (ProxyChild, TrainingLosses)  #: what gives a score
    defaults: ClassVar[TrialOptions] = {"trials": 1000, "in_flight": 1, "trials_per_step": 10}

    def __init__(
        self,
        space: SearchSpace,
        task: Task | None = None,
        table: LatencyTable | None = None,
        *,
        proposals: Literal["evolution", "random"] = "evolution",
        population: Count = 10,
        sample: Count = 3,
        ageing: bool = True,
        start: Sequence[str] = (),
        **options: Unpack[TrialOptions],
    ) -> None:
        if not isinstance(options.get("child"), (*self.judges, NoneType)):
            raise ConfigError(f"strategy=proxy: {type(options['child']).__name__} trains; legal: {JUDGES}")
        super().__init__(
            space,
            task,
            table,
            population=population,
            sample=sample,
            identity=0.0,  # a copy has the score of its parent
            ageing=ageing,
            start=start,
            **self.defaults | options,
        )
        self.proposals = proposals

    @classmethod
    def check_judge(cls, judge: type | None) -> None:
        if judge is None or not issubclass(judge, cls.judges):
            raise ConfigError(f"strategy=proxy searches on a score without training; legal: {JUDGES}")

    def usual_child(self) -> Judge:
        """The score of :class:`~lightning_nas.trials.proxy_child.ProxyChild`."""
        return ProxyChild()

    @property
    def answer_rule(self) -> str:
        return "the highest score of all architectures; among equal ones the earliest"

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``scores``: each architecture that was scored, the best first; and the population."""
        known = [(score_of(trial.curve[-1]), trial) for trial, _ in self.history if trial.curve]
        known.sort(key=lambda entry: (-entry[0], entry[1].number))
        rows = [{"trial": t.number, "score": score, "choices": str(t.architecture)} for score, t in known]
        return {**({} if self.proposals == "random" else super().tables()), "scores": rows}

    def propose(self, number: int) -> Proposal | Architecture:
        if self.proposals == "random" and number >= len(self.start):
            return self.beginning(number - len(self.start), self.rng("propose", number))
        return super().propose(number)
