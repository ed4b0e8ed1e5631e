"""Latency tables: reading, measurement, and costs computed from them.

The names below are imported on first use: ``python -m lightning_nas.latency --cfg job`` must not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_nas.latency.cost import ExpectedCost
    from lightning_nas.latency.macs import count_macs, count_params
    from lightning_nas.latency.measure import Timing, measure_space
    from lightning_nas.latency.table import Conditions, LatencyTable

__all__ = ["Conditions", "ExpectedCost", "LatencyTable", "Timing", "count_macs", "count_params", "measure_space"]

_HOME = {
    "Conditions": "table",
    "ExpectedCost": "cost",
    "LatencyTable": "table",
    "Timing": "measure",
    "count_macs": "macs",
    "count_params": "macs",
    "measure_space": "measure",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
