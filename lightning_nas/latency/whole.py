"""What whole networks take beyond the sum of their operations: a factor and a constant, fitted to a few networks.

An operation that is timed alone finds its weights in the fastest cache; in a network others have been there since. On
a server's processor networks took 1.02 to 1.36 times the sum of their operations, the small and the large ones alike,
so that a constant alone was wrong by half for the cheapest. A device that must be called adds a constant.
"""

import itertools
import statistics
from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter

import torch

from lightning_nas.architecture import Architecture
from lightning_nas.errors import InvalidArchitecture
from lightning_nas.latency.macs import count_space
from lightning_nas.spaces.base import SearchSpace

_APART = 0.25  # relative difference of the least and the largest sum, above which they tell a factor
_STEPS = 300  # changes of one decision on the way to a cheap network


def spread(space: SearchSpace, number: int, generator: torch.Generator) -> list[Architecture]:
    """Architectures of unlike cost: random ones, the cheapest that was found, and some between.

    Args:
        space: the search space.
        number: of architectures; half of them are random.
        generator: chooses them.

    Example:
        >>> from lightning_nas.testing.toys import ToySpace
        >>> [len(spread(ToySpace(), number, torch.Generator().manual_seed(0))) for number in (0, 1, 8)]
        [0, 1, 8]
    """
    drawn = [space.sample(generator) for _ in range(number - number // 2)]
    if not number // 2:
        return drawn
    macs = count_space(space, "MACs")

    def priced(architecture: Architecture) -> tuple[float, Architecture]:
        return space.cost(architecture, macs), architecture

    cheaper = [min(map(priced, drawn), key=itemgetter(0))]
    with suppress(InvalidArchitecture):  # a space of one architecture
        for _ in range(_STEPS):
            changed = priced(space.mutate(cheaper[-1][1], generator))
            if changed[0] < cheaper[-1][0]:
                cheaper.append(changed)
    first, least = cheaper[0][0], cheaper[-1][0]
    for k in range(number // 2):  # the last is the cheapest
        wanted = first + (least - first) * (k + 1) / (number // 2)
        drawn.append(min(cheaper, key=lambda found: abs(found[0] - wanted))[1])
    return drawn


def factor_and_constant(sums: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """The line ``factor * sum + constant`` with the least sum of relative errors, abs(line - measured) / measured.

    Such a line passes through two networks, or through one and 0; all of them are tried.

    Args:
        sums: of the costs of the operations, one for each network, above 0.
        measured: what these networks take, above 0.

    Returns:
        The factor, 1 where the sums are too much alike to tell one; the constant, at least 0.

    Example:
        >>> factor_and_constant([1.0, 2.0, 4.0], [1.75, 3.0, 5.5]), factor_and_constant([2.0, 2.1], [2.5, 2.6])
        ((1.25, 0.5), (1.0, 0.5))
        >>> factor_and_constant([1.0, 2.0, 4.0], [1.0, 2.5, 5.5])  # a line through 0 where the constant would be below
        (1.25, 0.0)
    """
    if not sums:
        return 1.0, 0.0
    points = list(zip(sums, measured, strict=True))
    if max(sums) - min(sums) <= _APART * max(sums):
        return 1.0, max(0.0, statistics.median(m - s for s, m in points))

    def error(line: tuple[float, float]) -> float:
        return sum(abs(line[0] * s + line[1] - m) / m for s, m in points)

    lines = [(m / s, 0.0) for s, m in points]
    for (s, m), (t, n) in itertools.combinations(points, 2):
        if s != t and (m - n) / (s - t) > 0:
            factor = (m - n) / (s - t)
            lines.append((factor, m - factor * s))
    return min((line for line in lines if line[1] >= 0), key=error)
