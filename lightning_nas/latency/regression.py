"""The costs of operations, from whole networks that were measured on a device that measures nothing smaller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

_PARTS = 5
_STRENGTHS = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
_LEAST = 0.01  # of the mean multiply-adds: what an operation without any is taken for
_CONSTANT = 0.1  # of a network: the scale of the constant


@dataclass(frozen=True)
class Fit:
    """Costs that add up to those of networks.

    Attributes:
        constant: of every network.
        costs: (K,) of each operation.
        iqr: (K,) inter-quartile range of each over the fits to four fifths of the networks.
        error: mean relative error on the networks left out.
        worst: largest relative error on them.
    """

    constant: float
    costs: Floats
    iqr: Floats
    error: float
    worst: float


def fit_costs(counts: Floats, measured: Floats, expected: Floats) -> Fit:
    r"""Non-negative least squares of the relative errors, drawn towards what multiply-adds suggest.

    .. math:: \min_{x \ge 0} \sum_n \Big(\frac{x_0 + \sum_k a_{nk} x_k}{y_n} - 1\Big)^2
        + \lambda \Big(\frac{x_0^2}{s_0^2} + \sum_k \Big(\frac{x_k}{s_k} - 1\Big)^2\Big)

    with the multiply-adds s of the operations, scaled to milliseconds. Networks that take one option of each layer tell
    the sums of costs, not each of them; of all costs with the same sums the second term takes those nearest to s. Its
    strength is chosen by cross-validation, and the error is that of another cross-validation around it.

    Args:
        counts: (N, K) how often each network runs each operation.
        measured: (N,) cost of each network, above 0; N is at least 5.
        expected: (K,) multiply-adds of each operation.

    Example:
        >>> counts = np.array([[1, 1, 0], [1, 0, 1], [1, 2, 0], [1, 0, 2], [1, 1, 1], [1, 3, 1]], dtype=float)
        >>> fit = fit_costs(counts, counts @ [2.0, 1.0, 5.0], expected=np.array([1.0, 1.0, 4.0]))
        >>> bool(np.allclose(counts @ fit.costs + fit.constant, counts @ [2.0, 1.0, 5.0], rtol=1e-3))
        True
    """
    scales = _scales(counts, measured, expected)
    fits = []
    errors = np.empty(len(measured))
    for kept, left in _parts(len(measured)):
        costs = _solved(counts[kept], measured[kept], scales, _strength(counts[kept], measured[kept], scales))
        fits.append(costs)
        errors[left] = _errors(counts[left], measured[left], costs)
    costs = _solved(counts, measured, scales, _strength(counts, measured, scales))
    low, high = np.quantile(np.array(fits)[:, 1:], [0.25, 0.75], axis=0)
    return Fit(float(costs[0]), costs[1:], high - low, float(errors.mean()), float(errors.max()))


def _scales(counts: Floats, measured: Floats, expected: Floats) -> Floats:
    """The constant's scale, and the cost of each operation by its multiply-adds."""
    mean = expected.mean()
    floored = np.maximum(expected, _LEAST * mean) if mean > 0 else np.ones_like(expected)
    rate = np.median(measured / np.maximum(counts @ floored, floored.min()))
    return np.concatenate([[_CONSTANT * np.median(measured)], rate * floored])


def _parts(networks: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which networks a fit has, and which it leaves out."""
    number = np.arange(networks) % _PARTS
    for part in range(min(_PARTS, networks)):
        yield number != part, number == part


def _strength(counts: Floats, measured: Floats, scales: Floats) -> float:
    """The strength of the second term that predicts networks left out best."""

    def error(strength: float) -> float:
        return float(
            sum(
                _errors(counts[left], measured[left], _solved(counts[kept], measured[kept], scales, strength)).sum()
                for kept, left in _parts(len(measured))
            )
        )

    return min(_STRENGTHS, key=error)


def _solved(counts: Floats, measured: Floats, scales: Floats, strength: float) -> Floats:
    """The constant and the costs, (1 + K,)."""
    rows = np.column_stack([np.ones(len(counts)), counts]) * scales / measured[:, None]
    pull = np.ones(len(scales))
    pull[0] = 0.0
    root = np.sqrt(strength)
    solution, _ = nnls(
        np.vstack([rows, root * np.eye(len(scales))]),
        np.concatenate([np.ones(len(counts)), root * pull]),
        maxiter=100 * len(scales),
    )
    return np.asarray(solution * scales, dtype=np.float64)


def _errors(counts: Floats, measured: Floats, costs: Floats) -> Floats:
    predicted = costs[0] + counts @ costs[1:]
    return np.asarray(np.abs(predicted - measured) / measured, dtype=np.float64)


def count_matrix(runs: Sequence[Sequence[str]], keys: Sequence[str]) -> Floats:
    """(N, K) how often each of N networks runs each of K operations.

    >>> count_matrix([["a", "b", "b"], ["c"]], ["a", "b", "c"]).tolist()
    [[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    """
    place = {key: number for number, key in enumerate(keys)}
    counts = np.zeros((len(runs), len(keys)))
    for row, run in zip(counts, runs, strict=True):
        for key in run:
            row[place[key]] += 1
    return counts
