"""The figures of ``result.json`` in words, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning_nas.report.record import number

_Z = 1.959963984540054  # of the normal distribution: 95 %, two-sided


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927, score interval without continuity correction).

    >>> low, high = wilson(35, 359)
    >>> f"{low:.4f} {high:.4f}"
    '0.0709 0.1326'
    """
    share, spread = successes / trials, _Z**2 / trials
    middle = share + spread / 2
    half = _Z * math.sqrt((share * (1 - share) + spread / 4) / trials)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def accuracy(result: Mapping[str, Any]) -> str | None:
    """``test_acc`` with the size of the test set and its interval, where ``test_samples`` tells the size.

    >>> accuracy({"test_acc": 0.9833, "test_samples": 359})
    '98.33% (95% interval 96.4% to 99.2%, n = 359)'
    >>> accuracy({"test_acc": 0.9833})
    '98.33%'
    """
    share, samples = number(result.get("test_acc")), number(result.get("test_samples"))
    if share is None:
        return None if result.get("test_acc") is None else str(result["test_acc"])
    if not samples or samples < 1 or not 0 <= share <= 1:
        return f"{share:.2%}"
    low, high = wilson(share * samples, int(samples))
    return f"{share:.2%} (95% interval {low:.1%} to {high:.1%}, n = {samples:,.0f})"


def latency(result: Mapping[str, Any]) -> str | None:
    """Measured and predicted latency, as far as they are known, and the device.

    >>> latency({"latency_measured_ms": 9.527, "latency_device": "cpu, 1 thread"})
    '9.527 ms measured (cpu, 1 thread)'
    >>> latency({"latency_measured_ms": 2.0, "latency_predicted_ms": 1.9})
    '2.000 ms measured, 1.900 ms predicted (-5%)'
    """
    measured, predicted = number(result.get("latency_measured_ms")), number(result.get("latency_predicted_ms"))
    said = [] if measured is None else [f"{measured:.3f} ms measured"]
    if predicted is not None:
        off = f" ({predicted / measured - 1:+.0%})" if measured else ""
        said.append(f"{predicted:.3f} ms predicted{off}")
    if not said:
        return None
    device = result.get("latency_device")
    return ", ".join(said) + (f" ({device})" if device else "")


def provenance(table: Mapping[str, Any]) -> str:
    """The device of a latency table, and the conditions it was measured under; "" where none are written.

    >>> provenance({"device": "Intel Xeon", "conditions": {"threads": 1, "batch_size": 8, "dtype": "float32"}})
    'Intel Xeon, 1 thread, batch 8, float32'
    """
    conditions = table.get("conditions")
    said = [str(table["device"])] if table.get("device") else []
    if isinstance(conditions, Mapping):
        threads, batch, dtype = (conditions.get(key) for key in ("threads", "batch_size", "dtype"))
        said += [f"{threads} thread{'' if threads == 1 else 's'}"] if threads else []
        said += [f"batch {batch}"] if batch else []
        said += [str(dtype)] if dtype else []
    return ", ".join(said)
