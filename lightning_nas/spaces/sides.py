"""Height and width of images and of what layers make of them; square ones are plain integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lightning_nas.errors import InputError, shown
from lightning_nas.ranges import Side

ImageSize: TypeAlias = Side | tuple[Side, Side]
"""Height and width of square images, or (height, width)."""


@dataclass(frozen=True)
class Sides:
    """Height and width that differ, with the arithmetic of one integer: each operation is done on both.

    Example:
        >>> -(-Sides(5, 8) // 2)
        Sides(height=3, width=4)
        >>> Sides(5, 8) < 6  # too small in one direction is too small
        True
    """

    height: int
    width: int

    def __neg__(self) -> Sides:
        return Sides(-self.height, -self.width)

    def __floordiv__(self, by: int) -> Sides:
        return Sides(self.height // by, self.width // by)

    def __lt__(self, least: int) -> bool:
        return min(self.height, self.width) < least

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


Size: TypeAlias = int | Sides
"""Height and width."""


def size_of(given: Any) -> Size:
    """The size that a constructor was given: an integer, (height, width), or a size.

    >>> size_of(8), size_of([8, 8]), size_of((6, 8))
    (8, 8, Sides(height=6, width=8))

    Raises:
        InputError: other numbers than one or two whole ones above 0.
    """
    if isinstance(given, (int, Sides)):
        return given
    numbers = list(given) if isinstance(given, Iterable) else []
    if len(numbers) != 2 or not all(type(number) is int and number > 0 for number in numbers):
        raise InputError(f"image_size is {shown(given)}; legal is one whole number, or (height, width)")
    height, width = numbers
    return height if height == width else Sides(height, width)


def pair(size: Size) -> tuple[int, int]:
    """(height, width).

    >>> pair(8), pair(Sides(6, 8))
    ((8, 8), (6, 8))
    """
    return (size.height, size.width) if isinstance(size, Sides) else (size, size)


def by(size: Size) -> str:
    """A size as cost keys and drawings spell it.

    >>> by(8), by(Sides(6, 8))
    ('8x8', '6x8')
    """
    return "x".join(map(str, pair(size)))
