"""Rank correlation of inherited-weight scores with a truth, during the search."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.base import RecordingCallback, is_due, show
from lightning_nas.errors import ConfigError
from lightning_nas.functional.ranking import (
    BELOW_CHANCE,
    BELOW_MACS,
    bootstrap_interval,
    chance_level,
    diverged_last,
    kendall_tau,
    p_tau,
    precision_at_top,
    spearman,
    verdict,
)
from lightning_nas.latency.sources import Macs
from lightning_nas.proxies.named import ProxyName, scores
from lightning_nas.ranges import Count, Ranked
from lightning_nas.report.figures import rank_scatter
from lightning_nas.report.record import number
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.tasks.base import Task
from lightning_nas.training.seeding import generator
from lightning_nas.trials.proxy_child import first_images, fresh
from lightning_nas.truth.stand_alone import StandAlone

Truth = Callable[[SearchSpace, Sequence[Architecture], Any, Task, int], list[float]]

_IMAGES = 64  # of the batch that scores without training look at
_PROXIES = "rank_proxies.csv"
_COLUMNS = (
    *("proxy", "kendall_tau", "low", "high", "p_tau", "spearman", "precision_at_k", "k", "architectures", "chance"),
)
_OF_A_PROXY = ("kendall_tau", "p_tau", "spearman", "precision_at_k", "chance")  # figures of result.json


@runtime_checkable
class Repeated(Protocol):
    """A truth that knows the same architectures from two trainings with different seeds."""

    def again(
        self, space: SearchSpace, architectures: Sequence[Architecture], data: Any, task: Task, seed: int
    ) -> tuple[list[float], list[float]] | None:
        """Both truths, each in order; None where there is only one."""


class RankCheck(RecordingCallback):
    """Kendall tau-b between the scores of the search and a truth, on a fixed random set of architectures.

    Writes ``rank.csv`` (one row per check) and ``rank_points.csv`` (one row per architecture and check), logs
    ``rank/kendall_tau`` and ``rank/spearman``, and shows a scatter plot in W&B and TensorBoard. For comparison it gives
    the rank correlation of the multiply-adds with the truth: a search that ranks no better has learned little.
    ``chance`` is the share of random orders with a tau as far from 0, and ``verdict`` what so many architectures can
    say (:func:`~lightning_nas.functional.ranking.verdict`). An architecture that diverges when it is trained alone
    counts as the worst; ``rank_points.csv`` has no truth for it. ``score_spread`` is the standard deviation of the
    scores, ``score_error`` the root mean square of the standard errors that the number of validation samples gives
    them: where the spread is smaller, the search cannot tell the architectures apart. ``kendall_tau_truth`` is the tau
    of the truth with itself, of trainings with two seeds: no search can be expected to rank better.

    With ``proxies``, scores of the fresh networks without training are compared with the same truth, once a search:
    ``rank_proxies.csv`` has a row for each, with the precision at the top beside the correlations, since a score that
    ranks a whole space well may say nothing at the top. A score that is not finite counts as the lowest. The file is
    one of :attr:`files` only then.

    Args:
        truth: returns the true score of each architecture.
            :class:`~lightning_nas.truth.stand_alone.StandAlone`, the default, trains each architecture;
            :class:`~lightning_nas.truth.tabulated.TabulatedTruth` reads a table.
        architectures: number of architectures, at least 3.
        every_n_epochs: epochs between two checks; the last epoch is always checked.
        top_k: size of the top for the precision at the top.
        ceiling: take the truth a second time with another seed, for ``kendall_tau_truth``; doubles the trainings of the
            truth. A truth without the method ``again`` has no second seed.
        proxies: scores without training to compare with the truth, by name; None for none.

    Raises:
        ConfigError: fewer than 3 architectures, or ``top_k`` above their number; ``proxies`` of networks of words.

    Example:
        >>> RankCheck(architectures=10, top_k=3).files["rank.csv"][:3]
        ('epoch', 'step', 'kendall_tau')
    """

    files: ClassVar = {
        "rank.csv": (
            *("epoch", "step", "kendall_tau", "low", "high", "p_tau", "spearman", "precision_at_k", "k"),
            *("architectures", "kendall_tau_macs", "spearman_macs", "chance", "verdict", "score_spread", "score_error"),
            "kendall_tau_truth",
        ),
        "rank_points.csv": ("epoch", "key", "score", "truth"),
    }

    def __init__(
        self,
        truth: Truth | None = None,
        *,
        architectures: Ranked = 6,
        every_n_epochs: Count = 4,
        top_k: Count = 2,
        ceiling: bool = True,
        proxies: Sequence[ProxyName] | None = None,
    ) -> None:
        if architectures < 3 or top_k > architectures:
            raise ConfigError(
                f"rank_check: got architectures={architectures}, top_k={top_k}; "
                "legal: architectures >= 3 and top_k <= architectures"
            )
        self.truth = StandAlone() if truth is None else truth
        self.count, self.every_n_epochs, self.top_k = architectures, every_n_epochs, top_k
        self.ceiling = ceiling
        self.proxies = proxies or ()
        if self.proxies:
            self.files = {**self.files, _PROXIES: _COLUMNS}  # type: ignore[misc]
        self.proxy_scores: dict[ProxyName, list[float]] = {}
        self.architectures: list[Architecture] = []
        self.truths: list[float] = []
        self.macs: list[float] = []
        self.agreement: float | None = None
        self._samples = 0  # that a score is taken on; the whole part is read to count them

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, SearchModule)
        pl_module.check(stage)  # before the truth is trained
        super().setup(trainer, pl_module, stage)
        self.architectures = pl_module.space.different(self.count, generator(pl_module.seed, "rank check"))
        if trainer.is_global_zero:
            counted = Macs()(pl_module.space)
            self.macs = [pl_module.space.cost(a, counted) for a in self.architectures]
            if self.proxies:
                self.proxy_scores = self._proxy_scores(pl_module)
            about = pl_module.space, self.architectures, pl_module.data, pl_module.task, pl_module.seed
            self.truths = self.truth(*about)
            if self.ceiling and isinstance(self.truth, Repeated):
                both = self.truth.again(*about)
                self.agreement = None if both is None else _agreement(*both)
        trainer.strategy.barrier("rank check")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        epoch = trainer.current_epoch
        if not trainer.is_global_zero or not is_due(trainer, self.every_n_epochs):
            return
        found = [pl_module.score(a) for a in self.architectures]
        for architecture, score, truth in zip(self.architectures, found, self.truths, strict=True):
            known = truth if math.isfinite(truth) else None
            self.record("rank_points.csv", {"epoch": epoch, "key": architecture.key, "score": score, "truth": known})
        figures = self._compare(found, generator(pl_module.seed, "bootstrap", pl_module.position))
        figures |= {"score_spread": statistics.stdev(found), "score_error": self._error(pl_module, found)}
        figures |= {"kendall_tau_truth": self.agreement}
        if self.proxies and not self.tables[_PROXIES].rows:
            self._record_proxies(pl_module.seed)
        self.record("rank.csv", {"epoch": epoch, "step": pl_module.position, **figures})
        for name in ("kendall_tau", "spearman", "kendall_tau_macs"):
            if figures[name] is not None:
                pl_module.log(f"rank/{name}", figures[name], rank_zero_only=True, prog_bar=name == "kendall_tau")
        drawn = [place for place, truth in enumerate(self.truths) if math.isfinite(truth)]
        if drawn:
            points = [found[i] for i in drawn], [self.truths[i] for i in drawn]
            show(trainer, "rank/scatter", rank_scatter(*points, figures["kendall_tau"]), pl_module.position)

    def _proxy_scores(self, module: SearchModule) -> dict[ProxyName, list[float]]:
        space, seed = module.space, module.seed
        if not space.input_dtype.is_floating_point:
            raise ConfigError("rank_check.proxies: scores are of networks of images, and these take words; legal: null")
        networks = [fresh(space, architecture, seed) for architecture in self.architectures]
        batch = first_images(module.data, _IMAGES)
        return {name: scores(name, networks, batch, module.task.loss, seed) for name in self.proxies}

    def _record_proxies(self, seed: int) -> None:
        """Compare the scores without training with the truth; they are the same at every check."""
        for name, values in self.proxy_scores.items():
            known = diverged_last(torch.tensor(values, dtype=torch.float64)).tolist()
            row = self._compare(known, generator(seed, "bootstrap", name))
            self.record(_PROXIES, {"proxy": name} | {key: row[key] for key in _COLUMNS if key in row})

    def _error(self, module: SearchModule, scores: Sequence[float]) -> float | None:
        """The root mean square of the standard errors of scores; None where the task does not know them."""
        self._samples = self._samples or sum(len(y) for _, y in module.scoring())
        errors = [module.task.score_error(score, self._samples) for score in scores]
        known = [error for error in errors if error is not None]
        return math.sqrt(statistics.fmean(error**2 for error in known)) if known else None

    def _compare(self, scores: list[float], rng: torch.Generator) -> dict[str, Any]:
        """One row of ``rank.csv``; figures that are undefined, as for constant scores, are None."""
        score, truth, macs = (torch.tensor(v, dtype=torch.float64) for v in (scores, self.truths, self.macs))
        truth = diverged_last(truth)
        tau = kendall_tau(score, truth)
        by_macs, chance = kendall_tau(macs, truth), chance_level(score, truth)
        low, high = bootstrap_interval(kendall_tau, score, truth, rng)
        figures: dict[str, torch.Tensor | float] = {
            "kendall_tau": tau,
            "low": low,
            "high": high,
            "p_tau": p_tau(tau),
            "spearman": spearman(score, truth),
            "precision_at_k": precision_at_top(score, truth, self.top_k),
            "kendall_tau_macs": by_macs,
            "spearman_macs": spearman(macs, truth),
            "chance": chance,
        }
        known = {name: None if math.isnan(value) else float(value) for name, value in figures.items()}
        said = verdict(float(tau), (low, high), chance, float(by_macs))
        return known | {"k": self.top_k, "architectures": len(scores), "verdict": said}

    def figures(self) -> dict[str, Any]:
        """The last check by the names of ``result.json``."""
        rows = self.tables["rank.csv"].read() if "rank.csv" in self.tables else []
        row = rows[-1] if rows else {}
        known = {"rank_proxies": self._proxy_figures()} if self.proxies else {}
        if number(row.get("kendall_tau")) is None:
            return known
        return known | {
            "kendall_tau": number(row["kendall_tau"]),
            "kendall_tau_interval": [number(row["low"]), number(row["high"])],
            "kendall_tau_architectures": int(row["architectures"]),
            "kendall_tau_chance": number(row["chance"]),
            "kendall_tau_macs": number(row["kendall_tau_macs"]),
            "ranking": row["verdict"] or None,
            "score_spread": number(row["score_spread"]),
            "score_error": number(row["score_error"]),
            "kendall_tau_truth": number(row.get("kendall_tau_truth")),
        }

    def _proxy_figures(self) -> list[dict[str, Any]]:
        """The rows of ``rank_proxies.csv`` as numbers."""
        return [
            {"proxy": row["proxy"], **{name: number(row[name]) for name in _OF_A_PROXY}}
            | {"kendall_tau_interval": [number(row["low"]), number(row["high"])]}
            | {"k": int(row["k"]), "architectures": int(row["architectures"])}
            for row in (self.tables[_PROXIES].read() if _PROXIES in self.tables else [])
        ]

    def doubts(self) -> Iterator[str]:
        """What the last check says against the search."""
        figures = self.figures()
        if figures.get("ranking") in (BELOW_CHANCE, BELOW_MACS):
            yield f"rank check: the search {figures['ranking']}, so its answer rests on wrong scores"
        spread, error = figures.get("score_spread"), figures.get("score_error")
        if spread is not None and error is not None and spread < error:
            yield (
                f"rank check: the scores of {len(self.architectures)} architectures spread by {spread:.4f}, less than "
                f"their standard error, {error:.4f}: the search cannot tell them apart"
            )
        if lost := sum(not math.isfinite(truth) for truth in self.truths):
            yield (
                f"rank check: {lost} of {len(self.truths)} architectures diverged when they were trained alone; they "
                "count as the worst"
            )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"truths": self.truths}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if len(state_dict["truths"]) == len(self.architectures):  # else an inexact resume with another setting
            self.truths = state_dict["truths"]


def _agreement(*truths: Sequence[float]) -> float | None:
    """Kendall's tau of two truths of the same architectures; None if one of them is constant."""
    first, second = (diverged_last(torch.tensor(truth, dtype=torch.float64)) for truth in truths)
    tau = float(kendall_tau(first, second))
    return None if math.isnan(tau) else tau
