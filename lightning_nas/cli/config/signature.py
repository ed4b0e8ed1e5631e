"""The arguments a class or function takes by name: the constructor is the schema of its YAML."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from types import FunctionType, SimpleNamespace
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Argument:
    """One argument that can be given by name; the annotation is resolved, ``Any`` where that cannot be done."""

    annotation: Any
    default: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """Arguments by name; ``open`` if others may be given too, or not all could be found."""

    arguments: dict[str, Argument]
    open: bool


def signature(made: Callable[..., Any]) -> Signature:
    """The arguments of a function, or of a class's constructor with those that it passes on to its bases.

    Constructors that end with ``**options`` and pass them on whole, to ``super().__init__``, are followed along the
    method resolution order. An argument that a base requires may be filled in on the way, so it counts as optional.

    >>> {name: argument.required for name, argument in signature(re.sub).arguments.items()}
    {'pattern': True, 'repl': True, 'string': True, 'count': False, 'flags': False}
    """
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # compiled
        return Signature({}, open=True)
    hints = _hints(made)
    arguments = {
        p.name: Argument(
            hints.get(p.name, Any) if isinstance(p.annotation, str) or p.annotation is p.empty else p.annotation,
            p.default,
            p.default is p.empty,
        )
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    if all(p.kind is not p.VAR_KEYWORD for p in parameters):
        return Signature(arguments, open=False)
    if not isinstance(made, type) or any("__new__" in vars(base) for base in made.__mro__ if base is not object):
        return Signature(arguments, open=True)
    constructors = [init for base in made.__mro__ if isinstance(init := vars(base).get("__init__"), FunctionType)]
    return _followed(arguments, constructors, hints)


def _followed(arguments: dict[str, Argument], constructors: list[FunctionType], hints: dict[str, Any]) -> Signature:
    """The arguments with those of the constructors that ``**options`` reach, one after the other."""
    filled = set[str]()
    for own, base in zip_longest(constructors, constructors[1:]):
        rest = _rest(own)
        passed = _passed_on(own, rest) if rest else None
        if passed is None or base is None:
            return Signature(arguments, open=rest is not None and passed is None)
        filled |= passed
        for p in list(inspect.signature(base).parameters.values())[1:]:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in {*arguments, *filled}:
                arguments[p.name] = Argument(hints.get(p.name, Any), p.default, required=False)
    return Signature(arguments, open=True)


def _rest(constructor: FunctionType) -> str | None:
    """The name of ``**options``."""
    found = [p.name for p in inspect.signature(constructor).parameters.values() if p.kind is p.VAR_KEYWORD]
    return found[0] if found else None


def _passed_on(constructor: FunctionType, rest: str) -> set[str] | None:
    """The keywords beside ``**options`` in ``super().__init__(...)``; None if that is not all their use."""
    try:
        source = inspect.getsource(inspect.unwrap(constructor))
    except (OSError, TypeError):
        return None
    calls = re.findall(rf"super\(\)\.__init__\(([^#]*?)\*\*{rest}\b", source)
    uses = len(re.findall(rf"\b{rest}\b", source)) - 1  # the first is the parameter
    return set(re.findall(r"\b(\w+)=", calls[0])) if len(calls) == uses == 1 else None


def _hints(made: Any) -> dict[str, Any]:
    """Resolved annotations by argument, those of derived classes before those of their bases."""
    places = made.__mro__ if isinstance(made, type) else (made,)
    return {name: hint for place in reversed(places) for name, hint in _own_hints(place)}


def _own_hints(place: Any) -> Iterator[tuple[str, Any]]:
    own = [vars(place).get("__new__"), vars(place).get("__init__")] if isinstance(place, type) else [place]
    for function in filter(callable, own):
        written = getattr(function, "__annotations__", {})
        scope = getattr(inspect.unwrap(function), "__globals__", {}) if written else {}
        for name, annotation in written.items():
            # alone, since one name that only type checkers see would hide all others
            alone = SimpleNamespace(__annotations__={name: annotation})
            with suppress(Exception):
                yield name, get_type_hints(alone, scope, include_extras=True)[name]
