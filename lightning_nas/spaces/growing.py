"""Protocol of spaces with networks of several depths, for searches that begin with shallow ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning_nas.spaces.base import SearchSpace


@runtime_checkable
class GrowingSpace(Protocol):
    """Space that can be restricted to one depth.

    Attributes:
        depths: numbers of layers, increasing.
    """

    @property
    def depths(self) -> Sequence[int]: ...

    def at_depth(self, layers: int) -> SearchSpace:
        """Return the same space (name, decisions) with networks of ``layers`` layers only."""
