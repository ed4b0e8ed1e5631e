"""The latency table: the cost of every operation of one search space on one device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lightning_nas.errors import LatencyTableError, shown
from lightning_nas.files import read_json, write_json
from lightning_nas.latency.schema import Strict, fit
from lightning_nas.spaces.base import SearchSpace, shape_text

FORMAT = 2
UNSTABLE = 0.1  # inter-quartile range over median of the undisturbed rounds, above which an entry is unstable

Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=200)]
Unit = Literal["ms", "MACs", "params"]
Device = Literal["cpu", "cuda", "onnxruntime", "command"]
Threads = Annotated[int, Field(ge=1, le=1024)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]
DType = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["channels_last", "contiguous"]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Conditions(Strict):
    """Conditions of a latency measurement.

    Attributes:
        device: "cpu" or "cuda", by torch; "onnxruntime" for the processor; "command" for a device of the user's.
        threads: intra-op threads; a command has its own.
        batch_size: examples per forward pass.
        dtype: type of weights and images; "float32" in ONNX files.
        memory_format: memory format of weights and images in torch; ONNX files have one, so there it stays as it is.
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

    @model_validator(mode="after")
    def _device_has_them(self) -> Self:
        fixed = {"onnxruntime": ("dtype", "memory_format"), "command": ("dtype", "memory_format", "threads")}
        for name in fixed.get(self.device, ()):
            usual, came = type(self).model_fields[name].default, getattr(self, name)
            if came != usual:
                raise ValueError(f"{name}: got {shown(came)}; device={self.device} has {shown(usual)} alone")
        return self

    def on(self, device: str) -> str:
        """The device, and how much of it is used: figures with different texts are never compared.

        >>> Conditions(batch_size=8).on("Intel Xeon")
        'Intel Xeon, 1 thread, batch 8'
        """
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.device in ("cpu", "onnxruntime") else ""
        batch = f", batch {self.batch_size}" if self.batch_size > 1 else ""
        dtype = f", {self.dtype}" if self.dtype != "float32" else ""
        layout = f", {self.memory_format}" if self.memory_format != "channels_last" else ""
        return f"{device}{threads}{batch}{dtype}{layout}"


class Entry(Strict):
    """Cost of one operation: median and inter-quartile range of the fastest quarter of rounds, in the table's unit."""

    median: Amount
    iqr: Amount


class Steadiness(Strict):
    """How steady the machine was during a measurement, as the measurement itself shows.

    Attributes:
        rounds: rounds in which the entries were measured, with those that repeated unstable ones.
        spread: inter-quartile range over median of the fastest quarter of the rounds, the median over the entries.
        unstable: share of the entries whose inter-quartile range is above a tenth of the median.
        drift: the same range over median of a reference operation that every round measures.
        waiting: share of the time in which the thread did not run, median over the rounds: the processor worked for
            other programs. 0 where it cannot be known: with several threads, and on a GPU.

    Example:
        >>> print(Steadiness(rounds=9, spread=0.03, unstable=0.0, drift=0.02, waiting=0.0))
        steady: entries vary by 3 % (median)
        >>> busy = Steadiness(rounds=18, spread=0.4, unstable=0.8, drift=0.3, waiting=0.5)
        >>> print(busy)  # doctest: +NORMALIZE_WHITESPACE
        not steady: other programs had 50 % of the time, entries vary by 40 % (median), 80 % of them by more than a
        tenth, a reference operation by 30 %; measure again when the machine is idle
    """

    rounds: Annotated[int, Field(ge=1)]
    spread: Amount
    unstable: Share
    drift: Amount
    waiting: Share

    @property
    def machine_is_steady(self) -> bool:
        """Whether the reference operation always took as long, and other programs took no time."""
        return self.drift <= UNSTABLE and self.waiting <= UNSTABLE

    @property
    def steady(self) -> bool:
        """Whether the figures can be had again: a steady machine, and no more than a tenth of the entries unstable."""
        return self.machine_is_steady and self.unstable <= UNSTABLE

    def __str__(self) -> str:
        vary = f"entries vary by {100 * self.spread:.0f} % (median)"
        if self.steady:
            return f"steady: {vary}"
        others = f"other programs had {100 * self.waiting:.0f} % of the time, " if self.waiting > UNSTABLE else ""
        many = f", {100 * self.unstable:.0f} % of them by more than a tenth" if self.unstable > UNSTABLE else ""
        drift = f"a reference operation by {100 * self.drift:.0f} %"
        return f"not steady: {others}{vary}{many}, {drift}; measure again when the machine is idle"


class Regression(Strict):
    """How a table was fitted to networks that were measured whole, and how well it predicts networks that were not.

    Attributes:
        networks: that were measured.
        error: mean of abs(predicted - measured) / measured, each network predicted by a fit to four fifths of the
            networks that leaves it out.
        worst: the largest of these errors.
        unseen: entries that are in none of the networks; they have what their multiply-adds suggest.

    Example:
        >>> print(Regression(networks=60, error=0.031, worst=0.09, unseen=0))
        fitted to 60 networks: off by 3.1 % (mean) and 9.0 % (worst) on networks left out
    """

    networks: Annotated[int, Field(ge=1)]
    error: Amount
    worst: Amount
    unseen: Annotated[int, Field(ge=0)]

    @property
    def good(self) -> bool:
        """Whether predictions are off by at most a tenth (mean)."""
        return self.error <= UNSTABLE

    def __str__(self) -> str:
        errors = f"off by {100 * self.error:.1f} % (mean) and {100 * self.worst:.1f} % (worst) on networks left out"
        unseen = f"; {self.unseen} entries are in none of them" if self.unseen else ""
        return f"fitted to {self.networks} networks: {errors}{unseen}"


class LatencyTable(Strict, Mapping[str, float]):
    """A frozen mapping from the cost key of an operation to its cost in a network, with the origin of the numbers.

    The cost of a network is the sum over its operations and the constant,
    :meth:`~lightning_nas.spaces.base.SearchSpace.cost`.

    Attributes:
        format: version of the schema.
        unit: "ms" for latency, "MACs" or "params" for counts.
        device: description of the machine.
        versions: versions of the software that measured.
        date: date of the measurement, ISO 8601.
        space: name of the search space.
        space_digest: digest of the search space, ``SearchSpace.digest``.
        conditions: conditions of the measurement; None for counts and published tables.
        factor: how much longer operations take in a network than alone, as whole networks showed; the entries contain
            it. 1 for counts, published tables, and tables that were fitted to whole networks.
        constant: what every network costs beyond its operations, in the unit of the table, as networks that were
            measured whole showed; at least 0. 0 for counts and published tables.
        steadiness: how steady the machine was while it measured; None for counts and published tables.
        regression: how the entries were fitted to whole networks; None where each was measured.
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
    factor: Annotated[float, Field(gt=0)] = 1.0
    constant: Amount = 0.0
    steadiness: Steadiness | None = None
    regression: Regression | None = None
    entries: dict[str, Entry]

    @model_validator(mode="after")
    def _time_passes(self) -> Self:
        each_measured = self.conditions is not None and self.regression is None
        if each_measured and (never := [k for k, entry in self.entries.items() if entry.median == 0]):
            raise ValueError(f"{shown(never[0])} was measured, yet took no time")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The content; tables that were not fitted, or without a factor, are written without the key."""
        content: dict[str, Any] = dumped(self)
        if self.regression is None:
            del content["regression"]
        if self.factor == 1:
            del content["factor"]
        return content

    def __getitem__(self, key: str) -> float:
        return self.entries[key].median

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # a mapping yields keys, pydantic pairs
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of unit, entries and constant, on which the results of a run depend."""
        entries = {key: [entry.median, entry.iqr] for key, entry in self.entries.items()}
        constant = [self.constant] if self.constant else []  # the digest of a table without is that of format 1
        text = json.dumps([self.unit, entries, *constant], sort_keys=True, separators=(",", ":"))
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
        command: str | None = None,
        timeout: Seconds | None = None,
        by: Literal["operations", "networks"] | None = None,
        networks: int | None = None,
        progress: bool = True,
    ) -> LatencyTable:
        """Measure every operation of a search space on a device, in milliseconds.

        Args:
            space: the search space.
            device: "cpu" or "cuda", by torch; "onnxruntime"; "command".
            threads: intra-op threads.
            batch_size: examples per forward pass.
            dtype: type of weights and images.
            memory_format: memory format of weights and images.
            min_run_time: seconds spent on each operation, at least.
            command: that measures an ONNX file on your device: "ssh phone ./bench {model}"; see
                :class:`~lightning_nas.latency.measurement.Measurement` for this and the next three.
            timeout: seconds that one run of it may take; None for 60.
            by: "operations" or "networks"; None for "networks" with a command, else "operations".
            networks: networks that are measured whole; None for as many as are usual.
            progress: whether to show a progress bar on stderr.

        Raises:
            LatencyTableError: illegal conditions.
            InputError: the machine has no such device.
            EnvironmentFailure: the command fails.
        """
        from lightning_nas.latency.measure import measure_space
        from lightning_nas.latency.measurement import Measurement

        given: dict[str, Any] = {"device": device, "threads": threads, "batch_size": batch_size, "dtype": dtype}
        given |= {"memory_format": memory_format, "min_run_time": min_run_time, "command": command}
        given |= {"timeout": timeout, "by": by, "networks": networks}
        return measure_space(space, fit(Measurement, given, where="LatencyTable.measure"), progress)

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
        content: Any = read_json(path, error=LatencyTableError)
        if isinstance(content, dict) and content.get("format") == 1 and type(content["format"]) is int:
            content = {"constant": 0.0, "steadiness": None, **content, "format": FORMAT}
        table = fit(cls, content, where=where)
        given = {"": {*table.model_fields_set, "regression", "factor"}}
        if table.conditions is not None:
            given["conditions."] = table.conditions.model_fields_set
        legal = {"": cls.model_fields, "conditions.": Conditions.model_fields}
        # defaults are for callers; a file says everything
        if lacking := [f"{part}{name}" for part in given for name in legal[part] if name not in given[part]]:
            raise LatencyTableError(f"{where}: the key {lacking[0]!r} is missing; is this a whole latency table?")
        return table

    def described(self) -> str:
        """The device, and how much of it was used; a table without conditions has its device alone.

        >>> LatencyTable(unit="ms", device="a phone", space="toy", space_digest="", entries={}).described()
        'a phone'
        """
        return self.conditions.on(self.device) if self.conditions else self.device

    @property
    def verdict(self) -> str:
        """How far to believe the figures; "" for counts and published tables."""
        return "; ".join(str(part) for part in (self.steadiness, self.regression) if part is not None)

    @property
    def doubt(self) -> str | None:
        """The verdict if it is a bad one."""
        bad = (self.steadiness and not self.steadiness.steady) or (self.regression and not self.regression.good)
        return self.verdict if bad else None

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
                f"{shown(self.space_digest, 40)}, not of {shown(space.name, 60)} with {shown(space.digest)}, which is "
                f"for inputs of {shape_text(space.input_shape)} and {space.num_classes} classes; measure that one with "
                "python -m lightning_nas.latency and the dataset=... and search_space... of this command"
            )
        if missing := [key for key in space.operations() if key not in self.entries]:
            names = ", ".join(shown(key, 50) for key in missing[:5])
            more = ", ..." if len(missing) > 5 else ""
            raise LatencyTableError(f"the latency table lacks {len(missing)} operations: {names}{more}")
        return self
