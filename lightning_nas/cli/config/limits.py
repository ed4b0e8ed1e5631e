"""Bounds that the signatures of other libraries' constructors do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Interval
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from lightning_nas.cli.config.targets import under
from lightning_nas.errors import shown

_RATE = NonNegativeFloat
_MOMENTUM = Annotated[float, Interval(ge=0, lt=1)]
_BATCHES = NonNegativeInt | Annotated[float, Interval(ge=0, le=1)] | None
_TRAINER = "pytorch_lightning.trainer.trainer.Trainer"

LIMITS: Mapping[str, Mapping[str, Any]] = {
    "torch.optim": {
        "lr": _RATE,
        "weight_decay": _RATE,
        "eps": _RATE | tuple[_RATE | None, _RATE],
        "momentum": _RATE,
        "betas": tuple[_MOMENTUM, _MOMENTUM],
        "T_max": PositiveInt,
        "T_0": PositiveInt,
        "step_size": PositiveInt,
        "milestones": list[PositiveInt],
        "eta_min": _RATE,
    },
    _TRAINER: {
        "max_epochs": PositiveInt | None,
        "min_epochs": NonNegativeInt | None,
        "max_steps": Annotated[int, Ge(-1)],
        "num_nodes": PositiveInt,
        "limit_train_batches": _BATCHES,
        "limit_val_batches": _BATCHES,
        "limit_test_batches": _BATCHES,
        "log_every_n_steps": NonNegativeInt | None,
        "check_val_every_n_epoch": PositiveInt | None,
        "num_sanity_val_steps": Annotated[int, Ge(-1)] | None,
    },
}

_OURS = {
    "gradient_clip_val": "strategy.weights_clip=, strategy.arch_clip=",
    "gradient_clip_algorithm": "strategy.weights_clip=, strategy.arch_clip= (by norm)",
    "accumulate_grad_batches": "strategy.accumulate=",
}


def limit(defined: str, argument: str) -> Any:
    """The annotation that an argument of the class defined as ``defined`` must keep to besides its own.

    >>> limit("torch.optim.lr_scheduler.StepLR", "step_size") == PositiveInt
    True
    >>> limit("torch.nn.Linear", "bias")
    typing.Any
    """
    for place, bounds in LIMITS.items():
        if under(defined, [place]) and argument in bounds:
            return bounds[argument]
    return Any


def trainer_problem(trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first flag of the Trainer that does not work with a search, and the reason.

    A search steps two optimisers itself and keeps architecture parameters in float32.

    >>> trainer_problem({"accumulate_grad_batches": 4})
    ('accumulate_grad_batches', 'got 4; a search steps its two optimisers itself: use strategy.accumulate=')
    """
    for flag, ours in _OURS.items():
        value = trainer.get(flag)
        if value is not None and not (flag == "accumulate_grad_batches" and value == 1):
            return flag, f"got {shown(value)}; a search steps its two optimisers itself: use {ours}"
    precision = trainer.get("precision")
    if isinstance(precision, str) and precision.endswith("-true") and precision not in ("32-true", "64-true"):
        return (
            "precision",
            f"got {shown(precision)}: architecture parameters would lose precision; use bf16-mixed or 16-mixed",
        )
    return None
