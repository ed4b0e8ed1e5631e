"""Annotations as tests of plain values, by pydantic in strict mode: the text "3" is no int, true is no int."""

from __future__ import annotations

import collections.abc
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lightning_nas.errors import shown

_PLAIN = (bool, int, float, str, NoneType, list, tuple, dict)
_LISTS = (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection, set, frozenset)
_MAPPINGS = (collections.abc.Mapping, collections.abc.MutableMapping)
_NAMES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "null": "null"}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class Entry:
    """An object that Hydra makes: in a configuration, a mapping with ``_target_``."""


@dataclass(frozen=True)
class Kind:
    """A test of plain values, and the legal values in words."""

    text: str
    accepts: Callable[[Any], bool]


ANYTHING = Kind("anything", lambda _: True)


def is_entry(value: Any) -> bool:
    """Whether Hydra would make an object of this."""
    return isinstance(value, dict) and "_target_" in value


def kind(annotation: Any) -> Kind:
    """The test that an annotation stands for; one that pydantic does not know accepts anything.

    An annotation that is a class or a callable accepts an entry with ``_target_`` and no other value.

    >>> from pydantic import PositiveFloat
    >>> optional = kind(PositiveFloat | None)
    >>> optional.text, optional.accepts(0.5), optional.accepts("0.5")
    ('float > 0 or null', True, False)
    """
    try:
        return _kind(annotation, str(annotation))
    except TypeError:  # an annotation that has no hash
        return _kind.__wrapped__(annotation, "")


@cache
def _kind(annotation: Any, _order: str) -> Kind:
    """``kind`` of annotations seen before; those that are equal may name their parts in another order."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter = TypeAdapter[Any](_written(annotation), config=ConfigDict(strict=True, allow_inf_nan=False))
        text = _described(adapter.json_schema())
    except (PydanticUserError, TypeError, NameError):
        return ANYTHING

    def accepts(value: Any) -> bool:
        try:
            adapter.validate_json(json.dumps(value, default=str))
        except ValidationError:
            return False
        return True

    return Kind(text, accepts)


def _written(annotation: Any) -> Any:
    """The annotation with everything that YAML cannot write (objects, functions) replaced by an entry."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    base = origin or annotation
    if base is Annotated:
        return Annotated[(_written(arguments[0]), *annotation.__metadata__)]
    if base in (Union, UnionType):
        return Union[tuple(map(_written, arguments))]  # noqa: UP007 - of a number that is not known here
    if base is Literal or base is None:
        return annotation
    if base in (Path, os.PathLike):
        return str
    if base in _LISTS or base in _MAPPINGS:
        base = list if base in _LISTS else dict
    if base in (Any, object) or not isinstance(base, type):
        return Any
    if issubclass(base, Enum) or getattr(base, "_is_protocol", False):
        return Any
    if not issubclass(base, _PLAIN):
        return _entry()
    plain: Any = base
    return plain[tuple(each if each is ... else _written(each) for each in arguments)] if arguments else plain


def _entry() -> Any:
    from pydantic import AfterValidator, WithJsonSchema

    def made(value: dict[str, Any]) -> dict[str, Any]:
        if not is_entry(value):
            raise ValueError
        return value

    return Annotated[dict[str, Any], AfterValidator(made), WithJsonSchema({"title": "an entry with _target_"})]


def _described(schema: Mapping[str, Any]) -> str:
    """A JSON schema in the words of an error message."""
    match schema:
        case {"title": str(text)}:
            return text
        case {"anyOf": options}:
            texts = [text for option in options for text in _described(option).split(" or ")]
            return "anything" if "anything" in texts else " or ".join(dict.fromkeys(texts))
        case {"enum": values}:
            return ", ".join(shown(value) for value in values)
        case {"const": value}:
            return shown(value)
        case {"type": "array", "prefixItems": items}:
            return f"list of {len(items)} ({', '.join(map(_described, items))})"
        case {"type": "array"}:
            items = _described(schema.get("items", {}))
            return ("list" if items == "anything" else f"list of {items}") + _length(
                schema.get("minItems"), schema.get("maxItems")
            )
        case {"type": "object"}:
            values = schema.get("additionalProperties")
            text = _described(values) if isinstance(values, dict) else "anything"
            return ("mapping" if text == "anything" else f"mapping to {text}") + _length(schema.get("minProperties"))
        case {"type": str(name)} if name in _NAMES:
            bounds = [f"{sign} {_number(schema[key])}" for key, sign in _BOUNDS.items() if key in schema]
            return " ".join([_NAMES[name], " and ".join(bounds)]).rstrip() + _length(schema.get("minLength"))
    return "anything"


def _length(least: int | None, most: int | None = None) -> str:
    if least and least == most:
        return f", exactly {least}"
    return (f", at least {least}" if least else "") + (f", at most {most}" if most else "")


def _number(bound: float) -> float:
    return int(bound) if bound == int(bound) else bound
