"""Layers that may be connected to any earlier ones: one yes-or-no decision for each pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lightning_nas.architecture import Decision

CONNECTED = ("no", "yes")


def connection_decisions(layer: int, earlier: Iterable[int]) -> Iterator[Decision]:
    """One decision for each earlier layer: whether ``layer`` is connected to it.

    >>> [decision.name for decision in connection_decisions(3, (1, 2))]
    ['layer_3_skip_1', 'layer_3_skip_2']
    """
    for j in earlier:
        yield Decision(f"layer_{layer}_skip_{j}", CONNECTED, f"layer_{layer}", refers=(f"layer_{j}",))


def connected_layers(layer: int, earlier: Iterable[int], choices: Mapping[str, str]) -> tuple[int, ...]:
    """The earlier layers that ``layer`` is connected to.

    >>> connected_layers(3, (1, 2), {"layer_3_skip_1": "no", "layer_3_skip_2": "yes"})
    (2,)
    """
    return tuple(j for j in earlier if choices[f"layer_{layer}_skip_{j}"] == "yes")


def connection_meaning(option: str) -> str | None:
    """Explain an answer to such a decision; None for any other option."""
    return {"no": "not connected", "yes": "connected"}.get(option)
