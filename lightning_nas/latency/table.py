"""The latency table: the cost of every operation of one search space on one device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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
    """Conditions of a latency measurement.

    Attributes:
        device: "cpu" or "cuda".
        threads: intra-op threads of torch.
        batch_size: examples per forward pass.
        dtype: type of weights and images.
        memory_format: memory format of weights and images.
        min_run_time: seconds spent on each operation, at least.

    Example:
        >>> Conditions(threads=2).batch_size
        1
    """

    device: Device = "cpu"
    threads: Threads = 1
    batch_size: BatchSize = 1
    dtype: DType = "float32"
    memory_format: MemoryFormat = "channels_last"
    min_run_time: Seconds = 0.03


class Entry(Strict):
    """Cost of one operation: median and inter-quartile range of repeated measurements, in the unit of the table."""

    median: Amount
    iqr: Amount


class LatencyTable(Strict, Mapping[str, float]):
    """A frozen mapping from the cost key of an operation to its cost (the median), with the origin of the numbers.

    The cost of a network is the sum over its operations, :meth:`~lightning_nas.spaces.base.SearchSpace.cost`.

    Attributes:
        format: version of the schema.
        unit: "ms" for latency, "MACs" or "params" for counts.
        device: description of the machine.
        versions: versions of the software that measured.
        date: date of the measurement, ISO 8601.
        space: name of the search space.
        space_digest: digest of the search space, ``SearchSpace.digest``.
        conditions: conditions of the measurement; None for counts and published tables.
        entries: one entry per cost key.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lightning_nas.testing.toys import ToySpace
        >>> space, file = ToySpace(), Path(tempfile.mkdtemp()) / "toy.json"
        >>> table = LatencyTable.measure(space, min_run_time=1e-4, progress=False)
        >>> table.save(file)
        >>> LatencyTable.load(file) == table
        True
        >>> table.unit, set(table) == set(space.operations()), space.cost(space.best, table) > 0
        ('ms', True, True)
        >>> LatencyTable.params(space).unit
        'params'
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
        """SHA-256 of unit and entries, on which the results of a run depend."""
        entries = {key: [entry.median, entry.iqr] for key, entry in self.entries.items()}
        text = json.dumps([self.unit, entries], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def measure(
        cls,
        space: SearchSpace,
        *,
        device: Device = "cpu",
        threads: Threads = 1,
        batch_size: BatchSize = 1,
        dtype: DType = "float32",
        memory_format: MemoryFormat = "channels_last",
        min_run_time: Seconds = 0.03,
        progress: bool = True,
    ) -> LatencyTable:
        """Measure every operation of a search space on this machine, in milliseconds.

        Args:
            space: the search space.
            device: "cpu" or "cuda".
            threads: intra-op threads of torch.
            batch_size: examples per forward pass.
            dtype: type of weights and images.
            memory_format: memory format of weights and images.
            min_run_time: seconds spent on each operation, at least.
            progress: whether to show a progress bar on stderr.

        Raises:
            LatencyTableError: illegal conditions.
            InputError: the machine has no such device.
        """
        from lightning_nas.latency.measure import measure_space

        given: dict[str, Any] = {"device": device, "threads": threads, "batch_size": batch_size, "dtype": dtype}
        given |= {"memory_format": memory_format, "min_run_time": min_run_time}
        return measure_space(space, fit(Conditions, given, where="LatencyTable.measure"), progress)

    @classmethod
    def macs(cls, space: SearchSpace) -> LatencyTable:
        """Count the multiply-adds of every operation of a search space, for one example."""
        from lightning_nas.latency.macs import count_space

        return count_space(space, "MACs")

    @classmethod
    def params(cls, space: SearchSpace) -> LatencyTable:
        """Count the parameters of every operation of a search space."""
        from lightning_nas.latency.macs import count_space

        return count_space(space, "params")

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read a table from a file; no code of the file is run.

        Raises:
            LatencyTableError: the file is missing, too large, not strict JSON, or not a table.
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
        """Write the table to a file, atomically.

        Raises:
            EnvironmentFailure: the file cannot be written.
        """
        write_json(path, self.model_dump(mode="json"))

    def check(self, space: SearchSpace) -> LatencyTable:
        """Return this table if it belongs to ``space`` and has all of its operations.

        Raises:
            LatencyTableError: the table is of another space, or lacks operations, of which up to five are named.
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
