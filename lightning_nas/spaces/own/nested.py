"""Values inside nested tuples, lists and dictionaries, such as the arguments of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def each(value: Any, kind: type[T]) -> Iterator[T]:
    """All values of a class, in order.

    >>> list(each({"a": [1, "x"], "b": (2, [3])}, int))
    [1, 2, 3]
    """
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (tuple, list, Mapping)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from each(entry, kind)


def replaced(value: Any, kind: type[T], make: Callable[[T], Any]) -> Any:
    """The same nest of plain containers with what ``make`` makes of each value of a class.

    >>> replaced({"a": [1, "x"], "b": (2, [3])}, int, str)
    {'a': ['1', 'x'], 'b': ('2', ['3'])}
    """
    if isinstance(value, kind):
        return make(value)
    if isinstance(value, Mapping):
        return {key: replaced(entry, kind, make) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return (list if isinstance(value, list) else tuple)(replaced(entry, kind, make) for entry in value)
    return value
