"""Channels that several tensors share, and the axes of tensors that are made of them.

An axis is a row of parts; a part is a group of channels, each of which takes ``times`` places in a row. A
concatenation has two parts, a flattened map of 7x7 pixels takes 49 places a channel. Operations that combine two axes
join their channels (union-find), so that in the end all tensors that must have one width hold one group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(eq=False)
class Channels:
    """A group of channels that are kept or dropped together.

    Attributes:
        size: number of channels.
        name: of the parameter that has them.
        quantum: a width must be a multiple of it.
        fixed: why no channel can be dropped, or None.
        used: some function has met them.
        heads: they are heads of attention.
        parts: the parts that they have been divided into, or None.
    """

    size: int
    name: str = ""
    quantum: int = 1
    fixed: str | None = None
    used: bool = False
    heads: bool = False
    parts: tuple[Part, ...] | None = None
    _parent: Channels | None = None

    @property
    def root(self) -> Channels:
        """The group that these channels have been joined to."""
        group = self
        while group._parent is not None:
            group = group._parent
        return group

    def fix(self, reason: str) -> None:
        """Keep all channels; the first reason stands."""
        root = self.root
        root.fixed = root.fixed or reason
        for part in root.parts or ():
            part.channels.fix(reason)

    def join(self, other: Channels) -> None:
        """Make one group of two of the same size."""
        mine, its = self.root, other.root
        mine.used = its.used = True
        if mine is not its:
            its._parent = mine
            mine.quantum = math.lcm(mine.quantum, its.quantum)
            mine.fixed = mine.fixed or its.fixed
            mine.heads = mine.heads or its.heads

    def divide(self, parts: tuple[Part, ...]) -> None:
        """Make every axis with these channels one of these parts, each kept or dropped as a whole."""
        root = self.root
        root.parts = parts
        for part in parts:
            inner = part.channels.root
            inner.used = True
            inner.quantum = math.lcm(inner.quantum, (Fraction(root.quantum) / part.times).numerator)
            inner.fixed = inner.fixed or root.fixed


@dataclass(frozen=True)
class Part:
    """Channels on an axis.

    Attributes:
        channels: the group.
        times: places that one channel takes.
    """

    channels: Channels
    times: Fraction = Fraction(1)

    @property
    def length(self) -> int:
        """Places on the axis."""
        return int(self.channels.root.size * self.times)

    def kept(self, widths: Mapping[Channels, int]) -> int:
        """Places on the axis of a narrower network."""
        root = self.channels.root
        return int(widths.get(root, root.size) * self.times)


Axis = tuple[Part, ...] | None
"""The parts of an axis; None for one without channels, such as height and width."""
Axes = list[Axis]


def divided(axis: Axis) -> Axis:
    """An axis with the parts of channels that have been divided since."""
    if axis is None or all(part.channels.root.parts is None for part in axis):
        return axis
    made = list[Part]()
    for part in axis:
        inner = divided(part.channels.root.parts)
        made += [part] if inner is None else [Part(each.channels, each.times * part.times) for each in inner]
    return tuple(made)


def fresh(shape: Sequence[int], name: str) -> Axes:
    """Axes of a parameter, each with channels of its own."""
    return [(Part(Channels(size, name)),) if size > 1 else None for size in shape]


def is_virgin(axis: tuple[Part, ...]) -> bool:
    """Whether no function has met the channels of an axis yet."""
    return len(axis) == 1 and axis[0].times == 1 and not axis[0].channels.root.used


def fix(axes: Iterable[Axis], reason: str) -> None:
    """Keep all channels of some axes."""
    for axis in axes:
        for part in axis or ():
            part.channels.fix(reason)


def use(axis: Axis) -> Axis:
    """Note that a function has met the channels of an axis."""
    for part in axis or ():
        part.channels.root.used = True
    return axis


def meet(left: Axes, i: int, right: Axes, j: int, reason: str) -> Axis:
    """Make axis ``i`` of one tensor and axis ``j`` of another the same, and return it.

    An axis that no function has met takes the parts of the other.

    Args:
        left: axes of one tensor.
        i: which of them.
        right: axes of the other.
        j: which of them.
        reason: why both stay whole, if they cannot be made the same.
    """
    a, b = left[i], right[j] = divided(left[i]), divided(right[j])
    if a is None or b is None:
        fix((a, b), reason)
    elif is_virgin(a):
        a[0].channels.root.divide(use(b) or ())
        left[i] = divided(a)
    elif is_virgin(b):
        b[0].channels.root.divide(use(a) or ())
        right[j] = divided(b)
    elif [(p.length, p.times) for p in a] == [(p.length, p.times) for p in b]:
        for mine, its in zip(a, b, strict=True):
            mine.channels.join(its.channels)
    elif _divides(a, b) or _divides(b, a):
        left[i], right[j] = divided(a), divided(b)
    else:
        fix((a, b), f"{reason}: their parts are not alike")
    return left[i]


def _divides(axis: tuple[Part, ...], parts: tuple[Part, ...]) -> bool:
    """Divide heads into parts of other heads, such as several queries a key; False if that cannot be."""
    root = axis[0].channels.root
    if len(axis) > 1 or axis[0].times != 1 or any(part.channels.root is root for part in parts):
        return False
    if not all(part.channels.root.heads for part in parts) or root.size != sum(part.length for part in parts):
        return False
    root.divide(parts)
    return True


def length(axis: tuple[Part, ...], widths: Mapping[Channels, int]) -> int:
    """Length of an axis of a narrower network."""
    return sum(part.kept(widths) for part in axis)


def ranges(axis: tuple[Part, ...], widths: Mapping[Channels, int]) -> list[tuple[int, int]]:
    """(start, length) of what a narrower network keeps of an axis: the first channels of each part."""
    found, start = list[tuple[int, int]](), 0
    for part in axis:
        kept = part.kept(widths)
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + kept)
        elif kept:
            found.append((start, kept))
        start += part.length
    return found
