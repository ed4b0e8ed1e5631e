"""The arguments of a class in words: what each means and which values it takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from lightning_nas.cli.config.limits import limit
from lightning_nas.cli.config.signature import Signature
from lightning_nas.kinds import ANYTHING, kind

_ARGUMENT = re.compile(r" {4}\*{0,2}(\w+)(?: \([^)]*\))?: *(.*)")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`]*)`")


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


def legal_values(made: Callable[..., Any], arguments: Signature) -> dict[str, str]:
    """The values that each argument takes, in the words of an error about it; left out where that is anything.

    Args:
        made: the class or function.
        arguments: its signature.
    """
    defined = f"{made.__module__}.{made.__qualname__}"
    texts = {}
    for name, argument in arguments.arguments.items():
        own, least = kind(argument.annotation).text, kind(limit(defined, name)).text
        text = own if least == ANYTHING.text else least
        if text != ANYTHING.text:
            texts[name] = text.replace("an entry with _target_", "object").replace("'", "")
    return texts
