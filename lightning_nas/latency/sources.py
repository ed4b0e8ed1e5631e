"""Sources of a run's latency table, one class for each YAML of ``conf/latency_table``.

An instance is called with the search space and returns a table that was checked against it.
"""

import hashlib
import logging
import re
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from lightning_nas.errors import LatencyTableError, shown
from lightning_nas.files import cache_folder
from lightning_nas.latency.macs import count_space
from lightning_nas.latency.measure import device_description, measure_space
from lightning_nas.latency.schema import fit
from lightning_nas.latency.table import (
    FORMAT,
    BatchSize,
    Conditions,
    Device,
    DType,
    LatencyTable,
    MemoryFormat,
    Seconds,
    Threads,
)
from lightning_nas.spaces.base import SearchSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Latency of each operation on this device in milliseconds, measured once and then read from a file.

    A table that was measured while the machine was busy (:class:`~lightning_nas.latency.table.Steadiness`) is returned
    but not written, so that the next call measures again; a run warns of it.

    Args:
        cache_dir: folder of the tables, whose names depend on space, device and conditions; a damaged table is
            measured again. None for :func:`~lightning_nas.files.cache_folder`.
        path: one file instead, which is read, or measured and written if it does not exist; a damaged file is an error.
        device: "cpu" or "cuda".
        threads: intra-op threads of torch.
        batch_size: examples per forward pass.
        dtype: type of weights and images.
        memory_format: memory format of weights and images.
        min_run_time: seconds spent on each operation, at least.

    Raises:
        LatencyTableError: illegal conditions; when called: ``path`` is damaged, belongs to another space, or was
            measured under other conditions.
        EnvironmentFailure: when called: the table cannot be written.

    Example:
        >>> import tempfile
        >>> from lightning_nas.testing.toys import ToySpace
        >>> source = Measured(tempfile.mkdtemp(), min_run_time=1e-4)
        >>> table = source(ToySpace())
        >>> source.file(ToySpace()).exists() == table.steadiness.steady  # the next call reads the file
        True
    """

    cache_dir: str | None = None
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
        """The conditions of the measurement."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return fit(Conditions, {name: given[name] for name in Conditions.model_fields}, where="latency_table")

    def file(self, space: SearchSpace) -> Path:
        """File of the table of ``space``; its name depends on space, device and conditions."""
        if self.path is not None:
            return Path(self.path).expanduser()
        facts = f"{device_description(self.device)} {torch.__version__} {FORMAT} {self.conditions.model_dump_json()}"
        name = re.sub(r"[^A-Za-z0-9_-]", "_", space.name)[:60]
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        folder = cache_folder() if self.cache_dir is None else Path(self.cache_dir).expanduser()
        return folder / f"latency_{name}_{space.digest}_{key}.json"

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
        if table.steadiness is None or table.steadiness.steady:
            table.save(file)
        else:
            log.info("the latency table is not kept, so that the next run measures again: %s", table.steadiness)
        return table

    def _as_wanted(self, table: LatencyTable, file: Path) -> LatencyTable:
        wanted = "ms", self.conditions, device_description(self.device)
        if (table.unit, table.conditions, table.device) == wanted:
            return table
        came = shown(f"{table.device}; {table.conditions or 'no measurement'}", 180)
        raise LatencyTableError(
            f"{shown(file)} was made for {came}, not for this device and these conditions; "
            "remove it to measure again, or read it unchanged with latency_table=file"
        )


@dataclass(frozen=True)
class File:
    """A table from a file, of any device and unit.

    Args:
        path: the file that ``python -m lightning_nas.latency`` or :meth:`LatencyTable.save` wrote.

    Raises:
        LatencyTableError: when called: no path, a damaged file, or a table of another space.
    """

    path: str | None = None

    def __call__(self, space: SearchSpace) -> LatencyTable:
        if self.path is None:
            raise LatencyTableError("latency_table=file needs the file: latency_table.path=FILE")
        return LatencyTable.load(self.path).check(space)


class Macs:
    """Multiply-adds of each operation for one example; they add up to those of the whole network exactly.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> Macs()(ToySpace()).unit
        'MACs'
    """

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return count_space(space, "MACs")


class Params:
    """Parameters of each operation; they add up to those of the whole network exactly.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> Params()(ToySpace()).unit
        'params'
    """

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return count_space(space, "params")


class NoTable:
    """No table, for strategies that ignore the cost."""

    def __call__(self, space: SearchSpace) -> None:
        del space
