"""Where a run's latency table comes from: each YAML of ``conf/latency_table`` spells one of these classes.

An instance is called with the search space and answers with a table that was checked against it.
"""

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from lightning_nas.errors import LatencyTableError, shown
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.measure import device_description, measure_space
from lightning_nas.latency.schema import fit
from lightning_nas.latency.table import (
    BatchSize,
    Conditions,
    Device,
    DType,
    Entry,
    LatencyTable,
    MemoryFormat,
    Seconds,
    Threads,
    Unit,
)
from lightning_nas.spaces.base import Operation, SearchSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """The latency of each operation on this device, in milliseconds: measured once, then read.

    Args:
        cache_dir: folder of tables named by space, device and conditions; a damaged one is measured again.
        path: instead, one file to read, or to write if there is none yet; a damaged one is an error.
        device: "cpu" or "cuda".
        threads: of torch's intra-op pool.
        batch_size: images a pass.
        dtype: of weights and images.
        memory_format: of weights and images.
        min_run_time: seconds spent on each operation, at least.

    Raises:
        LatencyTableError: illegal conditions; when called, ``path`` is damaged, another space's, or was measured
            otherwise.
        EnvironmentFailure: when called, the table cannot be written.
    """

    cache_dir: str
    path: str | None = None
    device: Device = "cpu"
    threads: Threads = 1
    batch_size: BatchSize = 1
    dtype: DType = "float32"
    memory_format: MemoryFormat = "channels_last"
    min_run_time: Seconds = 0.03

    def __post_init__(self) -> None:
        _ = self.conditions

    @property
    def conditions(self) -> Conditions:
        """What this measures under."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return fit(Conditions, {name: given[name] for name in Conditions.model_fields}, where="latency_table")

    def file(self, space: SearchSpace) -> Path:
        """Where the table of ``space`` is kept: a name that differs between spaces, devices and conditions."""
        if self.path is not None:
            return Path(self.path)
        facts = f"{device_description(self.device)} {torch.__version__} {self.conditions.model_dump_json()}"
        name = re.sub(r"[^A-Za-z0-9_-]", "_", space.name)[:60]
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        return Path(self.cache_dir) / f"latency_{name}_{space.digest}_{key}.json"

    def __call__(self, space: SearchSpace) -> LatencyTable:
        file = self.file(space)
        if file.exists():
            try:
                return self._as_wanted(LatencyTable.load(file).check(space), file)
            except LatencyTableError as reason:
                if self.path is not None:
                    raise
                log.warning("measuring again, the cached latency table cannot be used: %s", reason)
        table = measure_space(space, self.conditions)
        table.save(file)
        return table

    def _as_wanted(self, table: LatencyTable, file: Path) -> LatencyTable:
        wanted = "ms", self.conditions, device_description(self.device)
        if (table.unit, table.conditions, table.device) == wanted:
            return table
        came = shown(f"{table.device}; {table.conditions or 'no measurement'}", 180)
        raise LatencyTableError(
            f"{shown(file)} is not of this device and these conditions but of {came}; "
            "remove it to measure, or read it as it is with latency_table=file"
        )


@dataclass(frozen=True)
class File:
    """A table as it stands in a file, of any device and unit.

    Args:
        path: what ``python -m lightning_nas.latency`` wrote.

    Raises:
        LatencyTableError: when called, no path, a damaged file, or another space's table.
    """

    path: str | None

    def __call__(self, space: SearchSpace) -> LatencyTable:
        if self.path is None:
            raise LatencyTableError("latency_table=file needs the file: latency_table.path=FILE")
        return LatencyTable.load(self.path).check(space)


class Macs:
    """Multiply-adds of each operation for one example; their sum is that of the whole network, exactly."""

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return _counted(
            space, "MACs", lambda network, operation: count_macs(network, operation.input_shape, operation.dtype)
        )


class Params:
    """Parameters of each operation; their sum is that of the whole network, exactly."""

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return _counted(space, "params", lambda network, _: count_params(network))


class NoTable:
    """No table, for strategies that do not look at the cost."""

    def __call__(self, space: SearchSpace) -> None:
        del space


def _counted(space: SearchSpace, unit: Unit, count: Callable[[nn.Module, Operation], int]) -> LatencyTable:
    entries = {}
    with torch.device("meta"):  # only shapes matter, so no weight is made and no random number drawn
        for key, operation in space.operations().items():
            entries[key] = Entry(median=count(operation.build(), operation), iqr=0.0)
    return LatencyTable(unit=unit, device="any (counted)", space=space.name, space_digest=space.digest, entries=entries)
