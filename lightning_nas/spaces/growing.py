"""Spaces whose networks have several depths, for searches that begin with shallow ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lightning_nas.spaces.base import SearchSpace


@runtime_checkable
class GrowingSpace(Protocol):
    """A space that can be held to one depth.

    Attributes:
        depths: numbers of layers, increasing.
    """

    @property
    def depths(self) -> Sequence[int]: ...

    def at_depth(self, layers: int) -> SearchSpace:
        """The same space, of the same name and decisions, with networks of so many layers alone."""
