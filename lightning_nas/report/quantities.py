"""The figures of ``result.json`` in words, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning_nas.report.record import number

NAMES = {
    "r2": ("R2", ".4f"),
    "mse": ("mean squared error", ".6g"),
    "mae": ("mean absolute error", ".6g"),
    "map": ("mean average precision", ".4f"),
    "f1": ("F1", ".4f"),
    "miou": ("mIoU", ".4f"),
    "pixel_acc": ("pixel accuracy", ".2%"),
}
"""Words and format of the figures of tasks without accuracy and perplexity, by the names of their metrics."""
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
    """``test_acc`` with its source, or the size of the test set and the interval where ``test_samples`` tells it.

    >>> accuracy({"test_acc": 0.9833, "test_samples": 359})
    '98.33% (95% interval 96.4% to 99.2%, n = 359)'
    >>> accuracy({"test_acc": 0.9833})
    '98.33%'
    >>> accuracy({"test_acc": 0.9437, "accuracy_source": "read from a table"})
    '94.37% (read from a table)'
    """
    share, samples = number(result.get("test_acc")), number(result.get("test_samples"))
    if share is None:
        return None if result.get("test_acc") is None else str(result["test_acc"])
    if source := result.get("accuracy_source"):
        return f"{share:.2%} ({source})"
    if not samples or samples < 1 or not 0 <= share <= 1:
        return f"{share:.2%}"
    low, high = wilson(share * samples, int(samples))
    return f"{share:.2%} (95% interval {low:.1%} to {high:.1%}, n = {samples:,.0f})"


def inherited(result: Mapping[str, Any]) -> str | None:
    """The test figure of the network with the weights of the search, before it was trained further.

    >>> inherited({"inherited_acc": 0.9136}), inherited({"inherited_r2": 0.5})
    ('91.36% with inherited weights', 'R2 0.5000 with inherited weights')
    """
    share = number(result.get("inherited_acc"))
    if share is not None:
        return f"{share:.2%} with inherited weights"
    for name, (words, form) in {"ppl": ("perplexity", ".2f"), **NAMES}.items():
        if (figure := number(result.get(f"inherited_{name}"))) is not None:
            return f"{words} {figure:{form}} with inherited weights"
    return None


def retraining(result: Mapping[str, Any]) -> str | None:
    """Seconds of the retraining, and what was settled in it: the epoch of the weights, the learning rate.

    >>> retraining({"retrain_seconds": 12.34, "retrain_epochs": 9, "retrain_best_epoch": 6, "retrain_lr": 0.1585})
    '12.3 s, ended after 9 epochs, with the weights of epoch 6, at a learning rate of 0.159 by a range test'
    >>> retraining({"retrain_seconds": 12.34, "retrain_epochs": 12})
    '12.3 s'
    """
    seconds, rate = number(result.get("retrain_seconds")), number(result.get("retrain_lr"))
    epochs, best = (number(result.get(f"retrain_{name}")) for name in ("epochs", "best_epoch"))
    if seconds is None:
        return None
    said = f"{seconds:,.1f} s"
    if epochs is not None and best is not None:
        said += f", ended after {epochs:.0f} epochs, with the weights of epoch {best:.0f}"
    return said + (f", at a learning rate of {rate:.3g} by a range test" if rate is not None else "")


def scores(result: Mapping[str, Any]) -> dict[str, str]:
    """The test figures of a task without accuracy and perplexity, in words; the first with the number of samples.

    >>> scores({"test_r2": 0.75, "test_samples": 359, "test_mae": 0.125, "in_units": ["test_mae"]})
    {'test R2': '0.7500 (n = 359)', 'test mean absolute error': "0.125, in the targets' unit"}
    >>> scores({"test_acc": 0.9, "test_samples": 359})
    {}
    """
    said = dict[str, str]()
    for key, content in result.items():
        name, figure = key.removeprefix("test_"), number(content)
        if figure is None or not key.startswith("test_") or name in ("acc", "ppl", "samples"):
            continue
        words, form = NAMES.get(name, (name, ".4g"))
        unit = ""
        if key in (result.get("in_units") or ()):
            unit = ", in the targets' unit" + (" squared" if name == "mse" else "")
        elif name in ("mse", "mae"):
            unit = ", of standardised targets"
        samples = None if said else number(result.get("test_samples"))
        count = "" if samples is None else f" (n = {samples:,.0f})"
        said[f"test {words}"] = f"{figure:{form}}{unit}{count}"
    return said


def comparison(result: Mapping[str, Any]) -> str | None:
    """What the test accuracy is held against, as far as it is known.

    >>> comparison({"majority_share": 0.9375, "baseline_acc": 0.5})
    '93.75% by always answering the largest class, 50.00% by logistic regression on pixels'
    >>> comparison({"majority_miou": 0.08, "majority_pixel_acc": 0.88})
    'mIoU 0.0800 and pixel accuracy 88.00% by the most frequent class everywhere'
    """
    iou, pixels = number(result.get("majority_miou")), number(result.get("majority_pixel_acc"))
    if iou is not None and pixels is not None:
        return f"mIoU {iou:.4f} and pixel accuracy {pixels:.2%} by the most frequent class everywhere"
    said = {
        "majority_share": "by always answering the largest class",
        "baseline_acc": "by logistic regression on pixels",
    }
    shares = ((number(result.get(key)), words) for key, words in said.items())
    return ", ".join(f"{share:.2%} {words}" for share, words in shares if share is not None) or None


def tabulated(result: Mapping[str, Any]) -> str | None:
    """The accuracies of the same architecture in a table; None for a single one that is the result itself.

    >>> tabulated({"tabulated_acc": {"CIFAR-10": 0.9437, "CIFAR-100": 0.735}, "tabulated_by": "a table, 200 epochs"})
    '94.37% CIFAR-10, 73.50% CIFAR-100 (test accuracy in a table, 200 epochs, not trained here)'
    >>> tabulated({"tabulated_acc": {"a data set": 0.8}, "accuracy_source": "a table"}) is None
    True
    """
    known = result.get("tabulated_acc")
    if not isinstance(known, Mapping):
        return None if known is None else str(known)
    if len(known) == 1 and result.get("accuracy_source"):
        return None
    shares = {name: number(share) for name, share in known.items()}
    said = ", ".join(f"{share:.2%} {name}" for name, share in shares.items() if share is not None)
    by = result.get("tabulated_by") or "NAS-Bench-201, 200 epochs"  # the only one in files without it
    return f"{said} (test accuracy in {by}, not trained here)" if said else None


def ranking(result: Mapping[str, Any]) -> str | None:
    """Kendall's tau of the rank check with its interval, its size, the level of chance, and what it can say.

    >>> checked = {"kendall_tau": 0.6, "kendall_tau_interval": [-0.09, 1.0], "kendall_tau_architectures": 6}
    >>> ranking(checked | {"kendall_tau_chance": 0.068, "kendall_tau_macs": 0.333, "ranking": "too few to say"})
    '0.600 (95% interval -0.09 to 1.00, n = 6, 6.8% by chance; MACs alone 0.333): too few to say'
    >>> ranking({"kendall_tau": 0.6, "kendall_tau_macs": 0.333, "kendall_tau_truth": 0.44})
    '0.600 (MACs alone 0.333; the truth with itself 0.440)'
    """
    tau, by_macs = number(result.get("kendall_tau")), number(result.get("kendall_tau_macs"))
    size, chance = number(result.get("kendall_tau_architectures")), number(result.get("kendall_tau_chance"))
    if tau is None:
        return None
    ends = result.get("kendall_tau_interval")
    low, high = map(number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
    known = (
        None if low is None or high is None else f"95% interval {low:.2f} to {high:.2f}",
        None if size is None else f"n = {size:,.0f}",
        None if chance is None else f"{chance:.2g} by chance" if chance < 0.001 else f"{chance:.1%} by chance",
    )
    itself = number(result.get("kendall_tau_truth"))
    said = (
        ", ".join(filter(None, known)),
        None if by_macs is None else f"MACs alone {by_macs:.3f}",
        None if itself is None else f"the truth with itself {itself:.3f}",
    )
    more = "; ".join(filter(None, said))
    verdict = f": {result['ranking']}" if result.get("ranking") else ""
    return f"{tau:.3f}" + (f" ({more})" if more else "") + verdict


def latency(result: Mapping[str, Any]) -> str | None:
    """Measured and predicted latency, as far as they are known, each with its device; compared only on one device.

    >>> latency({"latency_measured_ms": 9.527, "latency_device": "cpu, 1 thread"})
    '9.527 ms measured (cpu, 1 thread)'
    >>> figures = {"latency_measured_ms": 2.0, "latency_iqr_ms": 0.05, "latency_predicted_ms": 1.9}
    >>> latency(figures | {"latency_device": "cpu", "latency_predicted_device": "cpu"})
    '2.000 ms measured, IQR 0.050, 1.900 ms predicted (-5%) (cpu)'
    >>> latency(figures | {"latency_device": "cpu", "latency_predicted_device": "a phone", "latency_steady": False})
    '2.000 ms measured, IQR 0.050, not steady (cpu); 1.900 ms predicted (a phone)'
    """
    measured, predicted = number(result.get("latency_measured_ms")), number(result.get("latency_predicted_ms"))
    here, there = result.get("latency_device"), result.get("latency_predicted_device")
    taken = None if measured is None else f"{measured:.3f} ms measured{spread(result)}"
    summed = None if predicted is None else f"{predicted:.3f} ms predicted"
    if taken and summed and here == there:
        off = against_measured(result)
        return f"{taken}, {summed}" + (f" ({off})" if off else "") + (f" ({here})" if here else "")
    both = ((taken, here), (summed, there))
    return "; ".join(words + (f" ({device})" if device else "") for words, device in both if words) or None


def spread(result: Mapping[str, Any]) -> str:
    """The inter-quartile range of the measured latency, and whether the machine was busy; "" if neither is known.

    >>> spread({"latency_iqr_ms": 0.05, "latency_steady": False})
    ', IQR 0.050, not steady'
    """
    iqr = number(result.get("latency_iqr_ms"))
    words = "" if iqr is None else f", IQR {iqr:.3f}"
    return f"{words}, not steady" if result.get("latency_steady") is False else words


def against_measured(result: Mapping[str, Any]) -> str | None:
    """By how much the predicted latency is off; None where both are not known to be of one device.

    >>> against_measured({"latency_measured_ms": 2.0, "latency_predicted_ms": 1.9})
    '-5%'
    >>> against_measured({"latency_measured_ms": 2.0, "latency_predicted_ms": 1.9, "latency_device": "a phone"})
    """
    measured, predicted = number(result.get("latency_measured_ms")), number(result.get("latency_predicted_ms"))
    if not measured or predicted is None or result.get("latency_device") != result.get("latency_predicted_device"):
        return None
    return f"{predicted / measured - 1:+.0%}"


def targets(result: Mapping[str, Any]) -> list[str]:
    """Whether each target was kept: by the measured network where there is a measurement, else by the table.

    >>> entry = {"asked": 2.5, "unit": "ms", "cost": 2.44, "cheapest": 1.2, "measured": 2.431}
    >>> targets({"targets": [entry]})
    ['2.500 ms: kept, 2.431 measured (cheapest possible: 1.200)']
    >>> targets({"targets": [entry | {"measured": 2.6}]})
    ['2.500 ms: missed by 4.0%, 2.600 measured (cheapest possible: 1.200)']
    >>> targets({"targets": [{"asked": 2e6, "unit": "MACs", "cost": 1999232, "cheapest": 5e5, "measured": None}]})
    ['2,000,000 MACs: kept, 1,999,232 by the table (cheapest possible: 500,000)']
    """
    said, entries = [], result.get("targets")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping):
            continue
        asked, cost, least, measured = (number(entry.get(key)) for key in ("asked", "cost", "cheapest", "measured"))
        if asked is None or cost is None or not asked > 0:
            continue
        form = ".3f" if entry.get("unit") == "ms" else ",.0f"
        taken, how = (cost, "by the table") if measured is None else (measured, "measured")
        verdict = "kept" if taken <= asked else f"missed by {taken / asked - 1:.1%}"
        possible = "" if least is None else f" (cheapest possible: {least:{form}})"
        said.append(f"{asked:{form}} {entry.get('unit')}: {verdict}, {taken:{form}} {how}{possible}")
    return said


def steps(result: Mapping[str, Any]) -> str | None:
    """The steps that led to the answer, by kind; None where no search is part of the result.

    >>> steps({"steps": {"weights": 1168, "architecture": 160, "trials": None}})
    '1,168 of the weights, 160 of the architecture'
    >>> steps({"steps": {"weights": None, "architecture": None, "trials": 30}})
    '30 trials'
    """
    taken, forms = result.get("steps"), {"weights": "of the weights", "architecture": "of the architecture"}
    if not isinstance(taken, Mapping):
        return None
    counts = ((number(count), forms.get(kind, kind)) for kind, count in taken.items())
    return ", ".join(f"{count:,.0f} {words}" for count, words in counts if count is not None) or None


def doubts(result: Mapping[str, Any]) -> list[str]:
    """The warnings of a result; none in a result that was written before they were kept.

    >>> doubts({"warnings": ["a tie"]}), doubts({"warnings": None})
    (['a tie'], [])
    """
    said = result.get("warnings")
    return [str(doubt) for doubt in said] if isinstance(said, list) else []


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
