"""Ranges of numbers that size a network or a run: the annotations of constructors, and so the check of a configuration.

The upper ends are far above any published network and far below what ends a process without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Interval, Len

Targets = Literal["classes", "numbers", "labels", "words", "masks"]
"""What a sample's target is: one class, numbers, yes or no for several labels, words, or a class for each pixel."""

UNLABELLED = 255
"""Value of a pixel of a mask that has no class."""

Count = Annotated[int, Interval(ge=1, le=1_000_000)]
"""Candidates, trials, batches or steps of a run."""

Ranked = Annotated[int, Interval(ge=1, le=2_000)]
"""Architectures that are compared with each other, pair by pair."""

Epochs = Annotated[int, Interval(ge=1, le=100_000)]

Depth = Annotated[int, Interval(ge=1, le=200)]
"""Cells or layers of a network."""

Layers = Annotated[int, Interval(ge=1, le=200)]
"""Layers that may each be joined to all before them, a decision for each pair."""

Nodes = Annotated[int, Interval(ge=1, le=64)]
"""Nodes or blocks of a cell, each a few decisions of a search space."""

Width = Annotated[int, Interval(ge=1, le=65_536)]
"""Channels, filters or units."""

Side = Annotated[int, Interval(ge=1, le=16_384)]
"""Pixels of one side of an image, or words of a window."""

Kernel = Annotated[int, Interval(ge=1, le=255)]
"""Pixels of one side of a filter, or its stride."""

BatchSize = Annotated[int, Interval(ge=1, le=1_048_576)]

Workers = Annotated[int, Interval(ge=0, le=1024)]
"""Processes that load data; 0 for none."""

Threads = Annotated[int, Interval(ge=1, le=1024)]
"""Threads of one process, or processes that train children."""

Seed = Annotated[int, Interval(ge=0, le=4_294_967_295)]

Finite = Annotated[float, Interval(ge=-1e12, le=1e12)]

Pair = Annotated[Sequence[Width], Len(2, 2)]
"""Two sizes, such as the cells and the channels of an evaluation network."""

Stem = tuple[Width, Kernel]
"""Channels and stride."""

Stages = Annotated[Sequence[tuple[Width, Annotated[int, Interval(ge=1, le=256)], Kernel]], Len(1, 100)]
"""(channels, blocks, stride) of each stage."""
