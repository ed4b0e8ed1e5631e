"""The keys of a composed configuration and their legal values; a field without a default must be there.

:func:`lightning_nas.cli.config.check.check` compares; it also checks entries with ``_target_`` by their constructors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from lightning_nas.export.names import Format
from lightning_nas.kinds import Entry
from lightning_nas.ranges import BatchSize, Count, Epochs, Threads


@dataclass(frozen=True)
class Retrain:
    """How the derived network is trained."""

    epochs: Epochs
    optimizer: Entry
    scheduler: Entry | None
    batch_size: BatchSize | None
    clip: PositiveFloat | None
    auxiliary_weight: NonNegativeFloat
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    drop_path_interval: Literal["epoch", "step"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None
    cutout: NonNegativeInt
    average_after: Count | None
    from_: Literal["scratch", "inherited"] = "scratch"  # "from" in a configuration
    patience: Count | None = None
    find_lr: bool = False


@dataclass(frozen=True)
class Resume:
    """How often checkpoints are written, and which of them a run may resume from."""

    allow_inexact: bool
    save_every: Count
    keep: Count


@dataclass(frozen=True)
class Export:
    """In which formats the trained network is written."""

    formats: Annotated[list[Format], Field(min_length=1)] | None


@dataclass(frozen=True)
class Run:
    """The top level."""

    seed: Annotated[int, Field(ge=0, le=4_294_967_295)]
    threads: Threads | None
    stages: Annotated[list[Literal["search", "retrain", "export", "ranking"]], Field(min_length=1)]
    architecture: str | None
    target: PositiveFloat | None
    target_ms: PositiveFloat | None
    target_macs: PositiveFloat | None
    target_params: PositiveFloat | None
    ckpt_path: str | None
    trusted_modules: list[str]
    search_space: Entry
    strategy: Entry
    dataset: Entry
    latency_table: Entry
    task: Entry
    trainer: Entry
    retrain: Retrain
    ranking: Entry | None
    callbacks: dict[str, Entry | None] | None
    logger: dict[str, Entry | None] | None
    paths: dict[str, str]
    resume: Resume
    export: Export
    engine: Entry | None
    child: Entry | None
