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
from lightning_nas.latency.command import described
from lightning_nas.latency.macs import count_space
from lightning_nas.latency.measure import measure_space
from lightning_nas.latency.measurement import METHOD, By, Measurement, Networks, open_device
from lightning_nas.latency.schema import fit
from lightning_nas.latency.table import (
    FORMAT,
    BatchSize,
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
    """Latency of each operation on a device in milliseconds, measured once and then read from a file.

    A table that was measured while the machine was busy (:class:`~lightning_nas.latency.table.Steadiness`) is returned
    but not written, so that the next call measures again; a run warns of it.

    Args:
        cache_dir: folder of the tables, whose names depend on space, device and conditions; a damaged table is
            measured again. None for :func:`~lightning_nas.files.cache_folder`.
        path: one file instead, which is read, or measured and written if it does not exist; a damaged file is an error.
        device: "cpu" or "cuda", by torch; "onnxruntime"; "command".
        threads: intra-op threads.
        batch_size: examples per forward pass.
        dtype: type of weights and images.
        memory_format: memory format of weights and images.
        min_run_time: seconds spent on each operation, at least.
        command: that measures an ONNX file on your device, "ssh phone ./bench {model}"; the network of a run's answer
            is measured by it too. It may only be set on the command line and in Python.
        timeout: seconds that one run of it may take; None for 60.
        by: "operations", each by itself, or "networks", whole ones that the table is fitted to; None for "networks"
            with a command, else "operations".
        networks: random networks that are measured whole; None for as many as are usual, see
            :class:`~lightning_nas.latency.measurement.Measurement`.

    Raises:
        LatencyTableError: illegal conditions; when called: ``path`` is damaged, belongs to another space, or was
            measured under other conditions.
        InputError: when called: the device is not here.
        EnvironmentFailure: when called: the table cannot be written, or the command fails.

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
    command: str | None = None
    timeout: Seconds | None = None
    by: By | None = None
    networks: Networks | None = None

    def __post_init__(self) -> None:
        _ = self.measurement

    @property
    def measurement(self) -> Measurement:
        """The conditions of the measurement, and how it is done."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return fit(Measurement, {name: given[name] for name in Measurement.model_fields}, where="latency_table")

    def check(self) -> None:
        """Refuse a device that is not here.

        Raises:
            InputError: says which.
        """
        open_device(self.measurement).close()

    def file(self, space: SearchSpace) -> Path:
        """File of the table of ``space``; its name depends on space, device and conditions."""
        if self.path is not None:
            return Path(self.path).expanduser()
        device = open_device(self.measurement)
        conditions = self.measurement.conditions.model_dump_json()
        facts = " ".join([f"{device.description()} {torch.__version__} {FORMAT} {METHOD} {conditions}", *self._ways()])
        facts += "".join(f" {name} {version}" for name, version in device.versions().items())
        name = re.sub(r"[^A-Za-z0-9_-]", "_", space.name)[:60]
        key = hashlib.sha256(facts.encode()).hexdigest()[:12]
        folder = cache_folder() if self.cache_dir is None else Path(self.cache_dir).expanduser()
        return folder / f"latency_{name}_{space.digest}_{key}.json"

    def _ways(self) -> list[str]:
        """What tells a table apart from that of the same conditions, measured as is usual."""
        ways = ["by networks"] if self.measurement.by_networks else []
        return ways if self.networks is None else [*ways, f"networks {self.networks}"]

    def __call__(self, space: SearchSpace) -> LatencyTable:
        file = self.file(space)
        if file.exists():
            try:
                return self._as_wanted(LatencyTable.load(file).check(space), file)
            except LatencyTableError as reason:
                if self.path is not None:
                    raise
                log.warning("measuring again, the cached latency table cannot be used: %s", reason)
        table = measure_space(space, self.measurement)
        if table.steadiness is None or table.steadiness.steady:
            table.save(file)
        else:
            log.info("the latency table is not kept, so that the next run measures again: %s", table.steadiness)
        return table

    def _as_wanted(self, table: LatencyTable, file: Path) -> LatencyTable:
        asked = self.measurement
        wanted = "ms", asked.conditions, open_device(asked).description(), asked.by_networks
        if (table.unit, table.conditions, table.device, table.regression is not None) == wanted:
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
        command: by which the table was measured, if it was by one: then the network of a run's answer is measured by it
            too. It may only be set on the command line and in Python; the file names its command, but never runs it.
        timeout: seconds that one run of the command may take; None for 60.

    Raises:
        LatencyTableError: when called: no path, a damaged file, a table of another space, or of another command.
    """

    path: str | None = None
    command: str | None = None
    timeout: Seconds | None = None

    def check(self) -> None:
        """Refuse a file that is not there or not such a table, and one of another command.

        Raises:
            LatencyTableError: says what is wrong.
        """
        self._table()

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return self._table().check(space)

    def _table(self) -> LatencyTable:
        if self.path is None:
            raise LatencyTableError("latency_table=file needs the file: latency_table.path=FILE")
        table = LatencyTable.load(self.path)
        if self.command is not None and table.device != described(self.command):
            raise LatencyTableError(
                f"{shown(Path(self.path))} was made for {shown(table.device, 180)}, not by the "
                f"{shown(described(self.command), 180)}"
            )
        return table


class Macs:
    """Multiply-adds of each operation for one example; they add up to those of the whole network exactly.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> Macs()(ToySpace()).unit
        'MACs'
    """

    unit = "MACs"

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return count_space(space, "MACs")


class Params:
    """Parameters of each operation; they add up to those of the whole network exactly.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> Params()(ToySpace()).unit
        'params'
    """

    unit = "params"

    def __call__(self, space: SearchSpace) -> LatencyTable:
        return count_space(space, "params")


class NoTable:
    """No table, for strategies that ignore the cost."""

    unit = None

    def __call__(self, space: SearchSpace) -> None:
        del space
