"""The latency table: what every operation of one space costs on one device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lightning_nas.errors import LatencyTableError, shown
from lightning_nas.files import read_json, write_json
from lightning_nas.latency.schema import Strict, fit
from lightning_nas.spaces.base import SearchSpace

FORMAT = 1

Amount = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(max_length=200)]
Unit = Literal["ms", "MACs", "params"]
Device = Literal["cpu", "cuda"]
Threads = Annotated[int, Field(ge=1, le=1024)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]
DType = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["channels_last", "contiguous"]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Conditions(Strict):
    """Under which a latency was measured.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch's intra-op pool.
        batch_size: images a pass.
        dtype: of weights and images.
        memory_format: of weights and images.
        min_run_time: seconds spent on each operation, at least.
    """

    device: Device = "cpu"
    threads: Threads = 1
    batch_size: BatchSize = 1
    dtype: DType = "float32"
    memory_format: MemoryFormat = "channels_last"
    min_run_time: Seconds = 0.03


class Entry(Strict):
    """One operation: median over repeated measurements, and inter-quartile range, in the table's unit."""

    median: Amount
    iqr: Amount


class LatencyTable(Strict, Mapping[str, float]):
    """A frozen mapping from cost key to cost (the median), and where the numbers come from.

    Attributes:
        format: version of the schema.
        unit: "ms" for latency, "MACs" or "params" for counts.
        device: the machine in words.
        versions: of the software that measured.
        date: ISO 8601.
        space: name of the search space.
        space_digest: its ``SearchSpace.digest``.
        conditions: of the measurement; None for counts and published tables.
        entries: by cost key.

    Example:
        >>> table = LatencyTable(
        ...     unit="ms", device="toy", space="toy", space_digest="0", entries={"conv": Entry(median=2.0, iqr=0.1)}
        ... )
        >>> table["conv"], len(table), "skip" in table
        (2.0, 1, False)
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    unit: Unit
    device: Text
    versions: dict[Text, Text] = Field(default_factory=dict)
    date: Text = ""
    space: Text
    space_digest: Text
    conditions: Conditions | None = None
    entries: dict[str, Entry]

    @model_validator(mode="after")
    def _time_passes(self) -> Self:
        if self.conditions is not None and (never := [k for k, entry in self.entries.items() if entry.median == 0]):
            raise ValueError(f"{shown(never[0])} was measured, yet took no time")
        return self

    def __getitem__(self, key: str) -> float:
        return self.entries[key].median

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # a mapping yields keys, pydantic pairs
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of unit and entries: what a run's results depend on."""
        entries = {key: [entry.median, entry.iqr] for key, entry in self.entries.items()}
        text = json.dumps([self.unit, entries], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table file; no code runs, whatever it holds.

        Raises:
            LatencyTableError: missing, too large, not strict JSON, or not a table.
        """
        where = shown(Path(path))
        table = fit(cls, read_json(path, error=LatencyTableError), where=where)
        given = {"": table.model_fields_set}
        if table.conditions is not None:
            given["conditions."] = table.conditions.model_fields_set
        legal = {"": cls.model_fields, "conditions.": Conditions.model_fields}
        # defaults are for callers; a file says everything
        if lacking := [f"{part}{name}" for part in given for name in legal[part] if name not in given[part]]:
            raise LatencyTableError(f"{where}: the key {lacking[0]!r} is missing; is this a whole latency table?")
        return table

    def save(self, path: str | Path) -> None:
        """Write the table's file, atomically."""
        write_json(path, self.model_dump(mode="json"))

    def check(self, space: SearchSpace) -> LatencyTable:
        """This table, if it belongs to ``space`` and holds each of its operations.

        Raises:
            LatencyTableError: another space's table, or operations are missing (up to five are named).
        """
        if (self.space, self.space_digest) != (space.name, space.digest):
            raise LatencyTableError(
                f"the latency table is of the space {shown(self.space, 60)} with digest "
                f"{shown(self.space_digest, 40)}, not of {shown(space.name, 60)} with {shown(space.digest)}; measure "
                f"this one with: python -m lightning_nas.latency search_space={shown(space.name, 60)[1:-1]}"
            )
        if missing := [key for key in space.operations() if key not in self.entries]:
            names = ", ".join(shown(key, 50) for key in missing[:5])
            more = ", ..." if len(missing) > 5 else ""
            raise LatencyTableError(f"the latency table lacks {len(missing)} operations: {names}{more}")
        return self
