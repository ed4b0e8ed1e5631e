"""Tests of plain values, and how to make bigger ones of small ones."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_nas.errors import shown

_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": (">", operator.gt),
    "ge": (">=", operator.ge),
    "lt": ("<", operator.lt),
    "le": ("<=", operator.le),
}


@dataclass(frozen=True)
class Kind:
    """A test of plain values, and its name for the reader of an error."""

    text: str
    test: Callable[[Any], bool]

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` passes, or is an entry: what that will make is not known before it is made."""
        return is_entry(value) or self.test(value)


def is_entry(value: Any) -> bool:
    """Whether Hydra would make an object of this."""
    return isinstance(value, dict) and "_target_" in value


def _is_float(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


ANYTHING = Kind("anything", lambda _: True)
NULL = Kind("null", lambda value: value is None)
BOOL = Kind("bool", lambda value: isinstance(value, bool))
INT = Kind("int", lambda value: type(value) is int)
FLOAT = Kind("float", _is_float)
STR = Kind("str", lambda value: isinstance(value, str))
ENTRY = Kind("an entry with _target_", is_entry)


def bounded(kind: Kind, bounds: Mapping[str, float]) -> Kind:
    """``kind`` whose numbers keep to bounds called ``gt``, ``ge``, ``lt``, ``le``.

    >>> bounded(FLOAT, {"ge": 0, "lt": 1}).text
    'float >= 0 and < 1'
    """
    tests = [(*_BOUNDS[name], bound) for name, bound in bounds.items()]
    text = " and ".join(f"{sign} {bound}" for sign, _, bound in tests)

    def test(value: Any) -> bool:
        number = type(value) in (int, float)
        return kind.test(value) and (not number or all(holds(value, bound) for _, holds, bound in tests))

    return Kind(f"{kind.text} {text}", test)


def longer(kind: Kind, length: int) -> Kind:
    """``kind`` whose lists, mappings and texts have at least ``length`` items."""
    return Kind(f"{kind.text}, at least {length}", lambda value: kind.test(value) and len(value) >= length)


def list_of(item: Kind) -> Kind:
    """A list of any length whose items are all of one kind."""
    text = "list" if item is ANYTHING else f"list of {item.text}"
    return Kind(text, lambda value: isinstance(value, list) and all(map(item.accepts, value)))


def tuple_of(items: Sequence[Kind]) -> Kind:
    """A list of fixed length."""
    return Kind(
        f"list of {len(items)} ({', '.join(item.text for item in items)})",
        lambda value: (
            isinstance(value, list)
            and len(value) == len(items)
            and all(item.accepts(v) for item, v in zip(items, value, strict=True))
        ),
    )


def dict_of(keys: Kind, values: Kind) -> Kind:
    """A mapping."""
    return Kind(
        "mapping" if values is ANYTHING else f"mapping to {values.text}",
        lambda value: (
            isinstance(value, dict) and all(map(keys.test, value)) and all(map(values.accepts, value.values()))
        ),
    )


def one_of(values: Sequence[Any]) -> Kind:
    """One of these values, of the same type."""
    legal = [(type(value), value) for value in values]
    return Kind(", ".join(shown(value) for value in values), lambda value: (type(value), value) in legal)


def union(kinds: Sequence[Kind]) -> Kind:
    """Any of several kinds.

    >>> union([INT, NULL, union([INT, STR])]).text
    'int or null or str'
    """
    if ANYTHING in kinds:
        return ANYTHING
    texts = dict.fromkeys(text for kind in kinds for text in kind.text.split(" or "))
    return Kind(" or ".join(texts), lambda value: any(kind.test(value) for kind in kinds))
