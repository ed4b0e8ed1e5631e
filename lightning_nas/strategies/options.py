"""Options that strategies share, and constructor signatures that show all of them.

A method names its own arguments and takes those of its family as ``**options: Unpack[...]`` (PEP 692), so that editors
and type checkers know them. :class:`FullSignature` makes ``inspect.signature`` and ``help`` show the same list, with
annotations and defaults from the constructors of the parent classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, TypedDict, get_args, get_type_hints

import torch
from annotated_types import Interval
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_nas.data.reader import Alternate
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.controllers.controller import Controller
from lightning_nas.strategies.penalties import Penalty
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.base import Engine

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]
ControllerFactory = Callable[[SearchSpace, torch.Generator], Controller]
ControllerOptimizer = Callable[[list[nn.Parameter]], Optimizer]


class SearchOptions(TypedDict, total=False):
    """Options of every search with shared weights, see :class:`~lightning_nas.strategies.base.SearchModule`."""

    seed: int
    weights_optimizer: OptimizerFactory
    weights_scheduler: SchedulerFactory | None
    weights_clip: PositiveFloat | None
    accumulate: PositiveInt
    score_batches: PositiveInt


class ArchOptions(SearchOptions, total=False):
    """Options of searches with architecture steps, see :class:`~lightning_nas.strategies.loop.ArchSteps`."""

    arch_optimizer: OptimizerFactory
    arch_scheduler: SchedulerFactory | None
    arch_clip: PositiveFloat | None
    alternate: Alternate
    arch_every: PositiveInt
    arch_warmup_epochs: NonNegativeInt


class DifferentiableOptions(ArchOptions, total=False):
    """Options of :class:`~lightning_nas.strategies.differentiable.base.DifferentiableSearch`."""

    theta_std: NonNegativeFloat
    penalty: Penalty | None


class TrialOptions(TypedDict, total=False):
    """Options of :class:`~lightning_nas.strategies.multi_trial.base.TrialSearch`."""

    engine: Engine | None
    child: Child | None
    seed: int
    trials: PositiveInt
    seconds: PositiveFloat | None
    in_flight: PositiveInt
    ordered: bool
    attempts: PositiveInt
    reuse: bool
    median_stop: bool
    trials_per_step: PositiveInt


class PolicyOptions(TrialOptions, total=False):
    """Options of :class:`~lightning_nas.strategies.multi_trial.policy.PolicySearch`."""

    controller: ControllerFactory
    optimizer: ControllerOptimizer
    children: PositiveInt
    baseline_decay: Annotated[float, Interval(ge=0, lt=1)]


class _Signature:
    """``__signature__`` of a class: what ``inspect.signature`` and ``help`` show."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # an instance is called with a batch
        return inspect.Signature(list(_parameters(owner.__mro__).values()))


class FullSignature:
    """Shows the arguments of a constructor and the options it passes on to its parents.

    A class that changes defaults of such options lists them in its ``defaults``, and passes on ``defaults | options``.

    Example:
        >>> from typing import Unpack
        >>> class Parent(FullSignature):
        ...     def __init__(self, *, seed: int = 0, accumulate: int = 1) -> None: ...
        >>> class Method(Parent):
        ...     def __init__(self, *, order: str = "first", **options: Unpack[SearchOptions]) -> None: ...
        >>> inspect.signature(Method)
        <Signature (*, order: str = 'first', seed: int = 0, accumulate: int = 1)>
    """

    __signature__ = _Signature()


def _parameters(mro: tuple[type, ...]) -> dict[str, Parameter]:
    """The parameters of the first constructor in ``mro``, those it passes on included, with resolved annotations."""
    place = next(i for i, base in enumerate(mro) if "__init__" in vars(base))
    init = vars(mro[place])["__init__"]
    hints = get_type_hints(init, include_extras=True)
    found = dict[str, Parameter]()
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind is not Parameter.VAR_KEYWORD:
            found[parameter.name] = parameter.replace(annotation=hints.get(parameter.name, Parameter.empty))
        else:
            inherited = _parameters(mro[place + 1 :])
            passed = _keys(hints.get(parameter.name)) or frozenset(inherited)
            changed = vars(mro[place]).get("defaults", {})
            inherited |= {name: inherited[name].replace(default=value) for name, value in changed.items()}
            found |= {name: inherited[name] for name in inherited if name in passed and name not in found}
    return found


def _keys(annotation: Any) -> frozenset[str]:
    """The keys of ``Unpack[SomeOptions]``; none of any other annotation."""
    return frozenset(key for options in get_args(annotation) for key in getattr(options, "__annotations__", ()))
