"""The arguments of a class in words: what each means, its default and its legal values, read from the class itself."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_ARGUMENT = re.compile(r" {4}\*{0,2}(\w+)(?: \([^)]*\))?: *(.*)")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`]*)`")
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_WORDS = {bool: "true or false", type(None): "null", int: "int", float: "float", str: "str"}


def meanings(made: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of each argument; the class nearest to it wins."""
    found: dict[str, str] = {}
    for base in made.__mro__:
        for name, text in documented(base.__doc__ or "").items():
            found.setdefault(name, text)
    return found


def documented(docstring: str) -> dict[str, str]:
    r"""The entries of the ``Args:`` section of a docstring.

    >>> documented("A disc.\n\nArgs:\n    radius: half of\n        its ``width``.\n\nRaises:\n    OSError: no.")
    {'radius': 'half of its width.'}
    """
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(docstring).partition("Args:\n")[2].splitlines():
        if line.strip() and not line.startswith("    "):
            break
        if entry := _ARGUMENT.fullmatch(line):
            name, found[entry[1]] = entry[1], entry[2]
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return {name: _ROLE.sub(r"\1", text).replace("``", "") for name, text in found.items()}


def annotations(made: type) -> dict[str, Any]:
    """The annotation of each argument, of the constructors of a class and of its bases; those nearest to it win."""
    found: dict[str, Any] = {}
    for base in made.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        try:
            hints = get_type_hints(vars(base)["__init__"], include_extras=True)
        except (NameError, TypeError, AttributeError):  # a name that is imported for type checkers alone
            hints = {}
        for name, hint in hints.items():
            found.setdefault(name, hint)
    return found


def defaults(made: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that can be given by name and have a default."""
    parameters = inspect.signature(made).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.kind is not p.POSITIONAL_ONLY}


def legal(annotation: Any) -> str:
    """The values an annotation allows; "object" for what a YAML gives as an entry with ``_target_``.

    >>> from annotated_types import Interval
    >>> legal(Annotated[float, Interval(gt=0, le=1)] | None)
    'float > 0 and <= 1, or null'
    >>> legal(Literal["sample", "argmax"])
    'sample, argmax'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if annotation is Any:
        return ""
    if origin is Annotated:
        inner = legal(arguments[0])
        bounds = " and ".join(_bounds(arguments[1:]))
        return f"{inner} {bounds}".strip()
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        words = dict.fromkeys(legal(argument) for argument in arguments)
        plain = [word for word in words if word not in ("", "object")]  # of "a number or a tensor", the number
        *others, last = plain if set(plain) - {"null"} else words
        return f"{', '.join(others)}, or {last}" if others else last
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(origin, type) and issubclass(origin, tuple) and Ellipsis not in arguments:
        return f"[{', '.join(map(legal, arguments))}]"
    if isinstance(origin, type) and hasattr(origin, "__iter__") and arguments:
        return f"[{legal(arguments[0])}, ...]"
    return "object"


def _bounds(metadata: tuple[Any, ...]) -> Iterator[str]:
    """The bounds in the metadata of ``Annotated``: annotated-types' own, or inside a ``Field`` of pydantic."""
    for item in metadata:
        for part in getattr(item, "metadata", [item]):
            for name, sign in _SIGNS.items():
                if getattr(part, name, None) is not None:
                    yield f"{sign} {getattr(part, name)}"
