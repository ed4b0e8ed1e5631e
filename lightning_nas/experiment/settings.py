"""Settings of a run as plain values: retraining, resuming, names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from lightning_nas.ranges import BatchSize, Count, Epochs
from lightning_nas.signature import Checked


@dataclass(frozen=True)
class Retraining(Checked):
    """Training of the answer on the weights and arch parts together (``conf/retrain``).

    Attributes:
        from_: "scratch": fresh weights; "inherited": those of the search (``from`` in a configuration).
        epochs: passes over the data.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate schedule, stepped once an epoch; None for a constant rate.
        batch_size: samples of a batch; None for the data set's.
        clip: largest gradient norm; None for no clipping.
        auxiliary_weight: weight of the auxiliary classifier's loss; 0 for networks without one.
        drop_path: probability of dropping a path at the end of the training; it rises linearly from 0.
        drop_path_interval: unit in which it rises.
        label_smoothing: of the retraining's loss; None for the task's.
        cutout: side in pixels of a square painted over, besides the data set's own augmentation.
        average_after: validation epochs without improvement after which ASGD averages; None for never.
        patience: validations without a better figure after which the training ends, with the weights of the best
            epoch; None for a training of all epochs, with the last weights.
        find_lr: set the optimiser's ``lr`` by a range test, see
            :func:`~lightning_nas.training.learning_rate.range_test`.
    """

    from_: Literal["scratch", "inherited"] = "scratch"
    epochs: Epochs = 12
    optimizer: Callable[[list[nn.Parameter]], Optimizer] = partial(
        SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler: Callable[[Optimizer], LRScheduler] | None = partial(CosineAnnealingLR, T_max=12)
    batch_size: BatchSize | None = None
    clip: PositiveFloat | None = None
    auxiliary_weight: NonNegativeFloat = 0.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_path_interval: Literal["epoch", "step"] = "epoch"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    cutout: NonNegativeInt = 0
    average_after: Count | None = None
    patience: Count | None = None
    find_lr: bool = False


@dataclass(frozen=True)
class Resuming(Checked):
    """When checkpoints are taken, and which of them may be taken up (``resume`` of the configuration).

    Attributes:
        save_every: batches between two checkpoints.
        keep: generations of ``last.ckpt`` on the disk.
        allow_inexact: resume although versions, threads or settings changed.
    """

    save_every: Count = 50
    keep: Count = 2
    allow_inexact: bool = False


@dataclass(frozen=True)
class Names:
    """What the record of a run calls its parts.

    Attributes:
        strategy: of the search.
        dataset: of the data; where results are looked up, of the table's data.
        title: of the W&B run; None lets W&B choose.
        group: of the W&B run: the sweep it belongs to.
        in_sweep: whether one process runs several runs, one after another.
        overrides: what the command asked for, as ``key=value``; empty in Python.
    """

    strategy: str
    dataset: str
    title: str | None = None
    group: str | None = None
    in_sweep: bool = False
    overrides: Sequence[str] = ()


def conditions_of(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run's record that change the bits of its result, nested as they are written."""
    kept = {name: record[name] for name in _DECISIVE}
    kept["retrain"] = {name: value for name, value in record["retrain"].items() if (name, value) != ("from", "scratch")}
    kept |= {name: record[name] for name in _TARGETS if record.get(name) is not None}
    kept["trainer"] = {name: record["trainer"].get(name) for name in _TRAINER_SETTINGS}
    if overfit := record["trainer"].get("overfit_batches"):
        kept["trainer"]["overfit_batches"] = overfit
    kept["engine"] = _engine_settings(record)
    kept["latency_table"] = {
        name: value
        for name, value in record["latency_table"].items()
        if name not in ("cache_dir", "timeout") and not (name in ("command", "by", "networks") and value is None)
    }
    return kept


_DECISIVE = ("seed", "search_space", "strategy", "dataset", "task", "retrain", "callbacks", "child")
_TARGETS = ("target", "target_ms", "target_macs", "target_params")
_TRAINER_SETTINGS = (
    *("max_epochs", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch", "log_every_n_steps"),
)
_LOOKUP = ("_target_", "dataset", "epochs")


def _engine_settings(record: dict[str, Any]) -> dict[str, Any]:
    """How candidates are trained or looked up; where they are trained does not count, so a search may move."""
    engine = record["engine"]
    if not engine:
        return {}
    if "dataset" in engine:  # a table
        return {name: engine.get(name) for name in _LOOKUP}
    return {"threads": engine.get("threads", record["threads"]), "gpus": bool(engine.get("gpus"))}
