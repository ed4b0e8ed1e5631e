"""Bounds that the signatures of other libraries' constructors do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lightning_nas.errors import shown
from lightning_nas.ranges import Epochs
from lightning_nas.spaces.builders import under

_RATE = NonNegativeFloat
_SHARE = Annotated[float, Interval(ge=0, le=1)]
_FACTOR = Annotated[float, Interval(gt=0, le=1000)]
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
        "T_max": Epochs,
        "T_0": Epochs,
        "step_size": PositiveInt,
        "milestones": list[PositiveInt],
        "eta_min": _RATE,
        "T_mult": PositiveInt,
        "gamma": _FACTOR,
        "factor": _SHARE,
        "last_epoch": Annotated[int, Ge(-1)],
        "alpha": _SHARE,
        "dampening": _SHARE,
        "lambd": _RATE,
        "t0": _RATE,
        "lr_decay": _RATE,
        "rho": _SHARE,
        "momentum_decay": _RATE,
        "power": _RATE,
        "total_iters": NonNegativeInt,
        "start_factor": _SHARE,
        "end_factor": _SHARE,
        "patience": NonNegativeInt,
    },
    _TRAINER: {
        "max_epochs": Epochs | None,
        "min_epochs": NonNegativeInt | None,
        "max_steps": Literal[-1] | PositiveInt,
        "min_steps": NonNegativeInt | None,
        "devices": Literal[-1]
        | Annotated[int, Interval(ge=1, le=1024)]
        | list[Annotated[int, Interval(ge=0, le=1024)]]
        | str,
        "fast_dev_run": bool | NonNegativeInt,
        "max_time": str | dict[str, NonNegativeInt] | None,
        "val_check_interval": PositiveInt | _SHARE | str | None,
        "accumulate_grad_batches": PositiveInt,
        "reload_dataloaders_every_n_epochs": NonNegativeInt,
        "num_nodes": Annotated[int, Interval(ge=1, le=65_536)],
        "limit_train_batches": _BATCHES,
        "limit_val_batches": _BATCHES,
        "limit_test_batches": _BATCHES,
        "limit_predict_batches": _BATCHES,
        "overfit_batches": _BATCHES,
        "log_every_n_steps": NonNegativeInt | None,
        "check_val_every_n_epoch": PositiveInt | None,
        "num_sanity_val_steps": Annotated[int, Ge(-1)] | None,
    },
    "pytorch_lightning.callbacks": {
        "patience": PositiveInt,
        "swa_lrs": PositiveFloat | list[PositiveFloat],
        "swa_epoch_start": PositiveInt | _SHARE,
        "annealing_epochs": PositiveInt,
        "save_top_k": Annotated[int, Ge(-1)],
        "refresh_rate": NonNegativeInt,
        "max_depth": Annotated[int, Ge(-1)],
    },
}

_OURS = {
    "gradient_clip_val": "a search steps its two optimisers itself: use strategy.weights_clip=, strategy.arch_clip=",
    "gradient_clip_algorithm": (
        "a search steps its two optimisers itself: use strategy.weights_clip=, strategy.arch_clip= (by norm)"
    ),
    "accumulate_grad_batches": "a search steps its two optimisers itself: use strategy.accumulate=",
    "min_steps": "a search steps its two optimisers itself: use trainer.min_epochs=",
    "fast_dev_run": "it also switches off the records of a run: use debug=fast, or debug=trials",
    "barebones": "it switches off what a run records and resumes from; leave it out",
    "sync_batchnorm": "fused operations read their own statistics; leave it out",
    "limit_test_batches": "the test part is always read as a whole; leave it out",
    "limit_predict_batches": "a run predicts nothing; leave it out",
    "callbacks": "the run sets them: use +callbacks.NAME={_target_: ...}",
    "logger": "the run sets it: use logger=",
    "plugins": "the run sets them, to write checkpoints that survive a crash; leave it out",
    "default_root_dir": "the run sets it: use hydra.run.dir=",
    "enable_progress_bar": "the run sets it: use callbacks.progress=null for none",
}
"""Flags of the Trainer that have no meaning in a run, and what serves in their place."""
_NEUTRAL = {"accumulate_grad_batches": (1,), "limit_test_batches": (1.0,), "limit_predict_batches": (1.0,)}
_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")


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
    """The first flag of the Trainer that does not work in a run, and the reason.

    A search steps two optimisers itself and keeps architecture parameters in float32. ``docs/reference/trainer.md`` has
    all flags.

    >>> trainer_problem({"accumulate_grad_batches": 4})
    ('accumulate_grad_batches', 'got 4; a search steps its two optimisers itself: use strategy.accumulate=')
    """
    for flag, instead in _OURS.items():
        value = trainer.get(flag)
        if value is not None and value is not False and value not in _NEUTRAL.get(flag, ()):
            return flag, f"got {shown(value)}; {instead}"
    strategy = trainer.get("strategy")
    if isinstance(strategy, str) and strategy not in _STRATEGIES:
        return "strategy", f"got {shown(strategy)}; legal: {', '.join(_STRATEGIES)} (trainer=ddp)"
    if trainer.get("limit_train_batches") == 0:
        return "limit_train_batches", f"got {trainer['limit_train_batches']}, which trains nothing; legal: null or > 0"
    max_time = trainer.get("max_time")
    if max_time is not None and not _has_time(max_time):
        return "max_time", f"got {shown(max_time)}, which is no time at all; legal: null, or DD:HH:MM:SS above zero"
    precision = trainer.get("precision")
    if isinstance(precision, str) and precision.endswith("-true") and precision not in ("32-true", "64-true"):
        return (
            "precision",
            f"got {shown(precision)}: architecture parameters would lose precision; use bf16-mixed or 16-mixed",
        )
    return None


def _has_time(max_time: Any) -> bool:
    """Whether a duration of Lightning's, ``DD:HH:MM:SS`` or by unit, is above zero.

    >>> _has_time("00:00:00:00"), _has_time({"hours": 0}), _has_time("00:00:00:01")
    (False, False, True)
    """
    if isinstance(max_time, Mapping):
        return any(max_time.values())
    return any(character in "123456789" for character in str(max_time))
