"""Objects as plain values, for the record of a run and for what must not change before a resume."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

_PLAIN = (bool, int, float, str)


def describe(part: Any) -> dict[str, Any]:
    """The class of an object, and its arguments as far as they are plain values; the same in every process.

    Args:
        part: an object, a class, or a ``functools.partial`` of a class.

    Example:
        >>> from lightning_nas.tasks.classification import Classification
        >>> describe(partial(Classification, label_smoothing=0.1))
        {'_object_': 'lightning_nas.tasks.classification.Classification', 'label_smoothing': 0.1}
    """
    if isinstance(part, partial):
        return describe(part.func) | {key: _given(value) for key, value in part.keywords.items()}
    kind = part if isinstance(part, type) else type(part)
    named = {"_object_": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(part, type | Sequence) or not hasattr(part, "__dict__"):
        return named
    arguments = inspect.signature(kind).parameters
    return named | {key: _given(held) for key, held in vars(part).items() if key in arguments and _is_plain(held)}


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return all(item is None or isinstance(item, (*_PLAIN, Path, partial)) for item in items)


def _given(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    if value is None or isinstance(value, _PLAIN):
        return value
    return str(value) if isinstance(value, Path) else describe(value)
