"""What the constructors of other libraries leave unsaid in their signatures."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from lightning_nas.cli.config.annotations import interpret
from lightning_nas.cli.config.kinds import ANYTHING, Kind
from lightning_nas.cli.config.source import Module
from lightning_nas.cli.config.targets import under
from lightning_nas.errors import shown

_RATE = "NonNegativeFloat"
_MOMENTUM = "Annotated[float, Interval(ge=0, lt=1)]"
_BATCHES = "NonNegativeInt | Annotated[float, Interval(ge=0, le=1)] | None"
_TRAINER = "pytorch_lightning.trainer.trainer.Trainer"

LIMITS: Mapping[str, Mapping[str, str]] = {
    "torch.optim": {
        "lr": _RATE,
        "weight_decay": _RATE,
        "eps": f"{_RATE} | tuple[{_RATE} | None, {_RATE}]",
        "momentum": _RATE,
        "betas": f"tuple[{_MOMENTUM}, {_MOMENTUM}]",
        "T_max": "PositiveInt",
        "T_0": "PositiveInt",
        "step_size": "PositiveInt",
        "milestones": "list[PositiveInt]",
        "eta_min": _RATE,
    },
    _TRAINER: {
        "max_epochs": "PositiveInt | None",
        "min_epochs": "NonNegativeInt | None",
        "max_steps": "Annotated[int, Ge(-1)]",
        "num_nodes": "PositiveInt",
        "limit_train_batches": _BATCHES,
        "limit_val_batches": _BATCHES,
        "limit_test_batches": _BATCHES,
        "log_every_n_steps": "NonNegativeInt | None",
        "check_val_every_n_epoch": "PositiveInt | None",
        "num_sanity_val_steps": "Annotated[int, Ge(-1)] | None",
    },
}

_OURS = {
    "gradient_clip_val": "strategy.weights_clip=, strategy.arch_clip=",
    "gradient_clip_algorithm": "strategy.weights_clip=, strategy.arch_clip= (by norm)",
    "accumulate_grad_batches": "strategy.accumulate=",
}


def limit(definition: str, parameter: str) -> Kind:
    """What ``parameter`` of the class defined as ``definition`` must keep to besides its annotation.

    >>> limit("torch.optim.adam.Adam", "lr").text
    'float >= 0'
    """
    for place, kinds in LIMITS.items():
        if under(definition, [place]) and parameter in kinds:
            return interpret(ast.parse(kinds[parameter], mode="eval").body, Module(""))
    return ANYTHING


def trainer_problem(trainer: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first flag that cannot work with a search, and why: two optimisers are stepped by hand, in float32.

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
