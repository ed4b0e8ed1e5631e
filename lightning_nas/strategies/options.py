"""Options that strategies share, and constructor signatures that show all of them.

A method names its own arguments and takes those of its family as ``**options: Unpack[...]`` (PEP 692), so that editors
and type checkers know them. :class:`Checked` makes ``inspect.signature`` and ``help`` show the same list, with
annotations and defaults from the constructors of the parent classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.data.reader import Alternate
from lightning_nas.ranges import Count, Seed
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.penalties import Penalty
from lightning_nas.strategies.target import Wanted
from lightning_nas.strategies.warm_start import WarmStartSettings
from lightning_nas.trials.engines.base import Engine
from lightning_nas.trials.judge import Judge

COLDEST, HOTTEST = 0.01, 10_000
Temperature = Annotated[float, Interval(ge=COLDEST, le=HOTTEST)]
"""Of gates: at lower ones they are one-hot and have no gradient in float32, at higher ones all alike."""

AnswerBy = Literal["probabilities", "perturbation"]
OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]
ControllerFactory = Callable[[SearchSpace, torch.Generator], Controller]
ControllerOptimizer = Callable[[list[nn.Parameter]], Optimizer]


class SearchOptions(TypedDict, total=False):
    """Options of every search with shared weights, see :class:`~lightning_nas.strategies.base.SearchModule`."""

    seed: Seed
    weights_optimizer: OptimizerFactory
    weights_scheduler: SchedulerFactory | None
    weights_clip: PositiveFloat | None
    accumulate: Count
    calibration_batches: Count
    score_batches: Count | None
    target: Wanted | None


class ArchOptions(SearchOptions, total=False):
    """Options of searches with architecture steps, see :class:`~lightning_nas.strategies.loop.ArchSteps`."""

    arch_optimizer: OptimizerFactory
    arch_scheduler: SchedulerFactory | None
    arch_clip: PositiveFloat | None
    alternate: Alternate
    arch_every: Count
    arch_warmup_epochs: NonNegativeInt


class DifferentiableOptions(ArchOptions, total=False):
    """Options of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`."""

    theta_std: NonNegativeFloat
    penalty: Penalty | None


class PerturbableOptions(DifferentiableOptions, total=False):
    """The same, for methods whose answer may be found by perturbation."""

    answer_by: AnswerBy
    perturbation_steps: NonNegativeInt


class DecayOptions(DifferentiableOptions, total=False):
    """The same, for methods whose gates are a softmax of the logits."""

    beta_decay: NonNegativeFloat


class SoftmaxOptions(PerturbableOptions, DecayOptions, total=False):
    """Both together."""


class TrialOptions(TypedDict, total=False):
    """Options of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`."""

    engine: Engine | None
    child: Judge | None
    seed: Seed
    trials: Count
    seconds: PositiveFloat | None
    in_flight: Count
    ordered: bool
    attempts: Count
    reuse: bool
    median_stop: bool
    trials_per_step: Count
    target: Wanted | None
    warm_start: WarmStartSettings | None


class PolicyOptions(TrialOptions, total=False):
    """Options of :class:`~lightning_nas.strategies.multi_trial.policy.PolicySearch`."""

    controller: ControllerFactory
    optimizer: ControllerOptimizer
    children: Count
    baseline_decay: Annotated[float, Interval(ge=0, lt=1)]
