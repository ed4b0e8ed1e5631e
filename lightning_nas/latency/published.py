"""Published latency tables, read from the files of their authors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lightning_nas.errors import LatencyTableError, shown
from lightning_nas.files import read_json
from lightning_nas.latency.schema import Model, Strict, fit
from lightning_nas.latency.table import Amount, Entry, LatencyTable, Text
from lightning_nas.signature import Checked
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.fbnet import OPTIONS, FBNetSpace, Layer
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace

Count = Annotated[int, Field(ge=1)]


class _Layer(Strict):
    h: Count
    w: Count
    cin: Count
    cout: Count
    stride: Count


class _Device(Strict):
    constant_ms: Amount
    layer_op_ms: list[list[Amount]]


class _HWNAS(Strict):
    source: Text
    layers: list[_Layer]
    op_names: list[Text]
    formula: str
    devices: dict[str, _Device]


class _Proxyless(Strict):
    source: Text
    entries: dict[str, Amount]
    count: dict[str, Count]
    var: dict[str, Amount]


@dataclass(frozen=True)
class HWNASBench(Checked):
    """HW-NAS-Bench's table of FBNet's space on one device (Li et al., ICLR 2021, arXiv:2103.10584).

    The file gives milliseconds for 22 layers x 9 blocks, and a constant for the rest of the network, which becomes the
    entry of the stem; that of the head is 0. The data determine only sums, so "skip" is 0 by convention. The space must
    be that of ``search_space=fbnet_hwnas``, which has the layers of the file.

    Args:
        path: the JSON file.
        device: a device of the file.

    Raises:
        LatencyTableError: when called: no path, another file, an unknown device, or another space.
    """

    path: str | None = None
    device: str = "raspi4"

    def __call__(self, space: SearchSpace) -> LatencyTable:
        content, where = _read(_HWNAS, self.path)
        if self.device not in content.devices:
            legal = shown(", ".join(content.devices))
            raise LatencyTableError(
                f"{where} has no device {shown(self.device)} (latency_table.device=); legal: {legal}"
            )
        rows = content.devices[self.device].layer_op_ms
        layers = [Layer(row.cin, row.cout, row.stride, row.h) for row in content.layers if row.h == row.w]
        if not isinstance(space, FBNetSpace) or tuple(layers) != space.layers:
            raise LatencyTableError(f"{where} is not of the space {shown(space.name)}; use search_space=fbnet_hwnas")
        if content.op_names != list(OPTIONS) or [len(row) for row in rows] != [len(OPTIONS)] * len(layers):
            raise LatencyTableError(f"{where}: expected {len(layers)} rows of {', '.join(OPTIONS)}")
        stem, head = space.gate_keys()[0]
        entries = {stem: content.devices[self.device].constant_ms, head: 0.0}
        for layer, row in zip(layers, rows, strict=True):
            for option, cost in zip(OPTIONS, row, strict=True):
                if entries.setdefault(layer.key(option), cost) != cost:
                    raise LatencyTableError(f"{where}: two costs for {layer.key(option)!r} on {shown(self.device)}")
        return _table(space, f"{self.device} (HW-NAS-Bench)", entries)


@dataclass(frozen=True)
class Proxyless(Checked):
    """ProxylessNAS' table for the Pixel 1, milliseconds (Cai et al., ICLR 2019, arXiv:1812.00332).

    The space must be that of ``search_space=proxyless``, or have the cost keys of the file.

    Args:
        path: the JSON file.

    Raises:
        LatencyTableError: when called: no path, another file, or the table lacks operations of the space.
    """

    path: str | None = None

    def __call__(self, space: SearchSpace) -> LatencyTable:
        content, _ = _read(_Proxyless, self.path)
        entries = content.entries
        if isinstance(space, ProxylessNASSpace):
            entries = {ours: entries[key] for ours, key in space.published_keys().items() if key in entries}
        return _table(space, "Google Pixel 1 (ProxylessNAS)", entries)


def _read(model: type[Model], path: str | None) -> tuple[Model, str]:
    if path is None:
        raise LatencyTableError("a published table needs its file: latency_table.path=FILE")
    where = shown(Path(path))
    return fit(model, read_json(path, error=LatencyTableError), where=where), where


def _table(space: SearchSpace, device: str, costs: dict[str, float]) -> LatencyTable:
    entries = {key: Entry(median=cost, iqr=0.0) for key, cost in costs.items()}
    table = LatencyTable(unit="ms", device=device, space=space.name, space_digest=space.digest, entries=entries)
    return table.check(space)
