"""Constructor signatures that show every argument, also those that a class passes on to its parents.

:class:`Checked` holds arguments to the ranges of the annotations, in Python as in a configuration.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from inspect import Parameter
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from lightning_nas.errors import ConfigError, shown
from lightning_nas.kinds import kind

_CHECKED = (int, float, bool, Literal)
_ATOMS = (*_CHECKED, str, NoneType, None)
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class _Signature:
    """``__signature__`` of a class: what ``inspect.signature`` and ``help`` show."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # an instance may be called with other arguments
        return inspect.Signature(list(_parameters(owner.__mro__).values()))


class Checked:
    """Base of classes whose constructors hold what a caller gives to their annotations, and show every argument.

    A constructor may name its own arguments and take its parents' as ``**options: Unpack[...]`` (PEP 692). A class that
    changes defaults of such options lists them in its ``defaults``, and passes on ``defaults | options``.

    Raises:
        ConfigError: see :func:`check_arguments`. Arguments that a class passes on to its parents are not checked.

    Example:
        >>> from typing import TypedDict, Unpack
        >>> from pydantic import PositiveInt
        >>> class Options(TypedDict, total=False):
        ...     batch_size: int
        >>> class Parent(Checked):
        ...     def __init__(self, *, batch_size: PositiveInt = 64) -> None: ...
        >>> class Child(Parent):
        ...     def __init__(self, *, flip: bool = False, **options: Unpack[Options]) -> None: ...
        >>> list(inspect.signature(Child).parameters)
        ['flip', 'batch_size']
        >>> Child(batch_size=0)
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: Child: batch_size: got 0; legal: int > 0
    """

    __slots__ = ()
    __signature__ = _Signature()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the arguments; there are none where a copy or an unpickled object is made."""
        check_arguments(cls, args, kwargs)
        return super().__new__(cls)


def check_arguments(made: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Hold the arguments that a constructor is given to its annotations.

    Args:
        made: the class.
        args: by position.
        kwargs: by name; those that are no numbers, flags or choices of words, nor sequences or mappings of them, are
            left to the constructor.

    Raises:
        ConfigError: one line that names the class, the argument, what came and what is legal.

    Example:
        >>> from lightning_nas.ranges import Width
        >>> class Layer:
        ...     def __init__(self, units: Width) -> None: ...
        >>> check_arguments(Layer, [-1], {})
        Traceback (most recent call last):
        lightning_nas.errors.ConfigError: Layer: units: got -1; legal: int >= 1 and <= 65536
    """
    names, checked = _checked(made)
    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        if name in checked and not (legal := kind(checked[name])).accepts(_plain(value)):
            raise ConfigError(f"{made.__name__}: {name}: got {shown(value)}; legal: {legal.text}")


@cache
def _checked(made: type) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments by position, and the annotations of those that are checked."""
    parameters = _parameters(made.__mro__)
    positions = tuple(name for name, parameter in parameters.items() if parameter.kind in _BY_POSITION)
    return positions, {
        name: parameter.annotation | None if parameter.default is None else parameter.annotation
        for name, parameter in parameters.items()
        if parameter.kind in (*_BY_POSITION, Parameter.KEYWORD_ONLY)
        and _is_checked(parameter.annotation)
        and not _is_shape(parameter.annotation)
    }


def _is_checked(annotation: Any) -> bool:
    """Whether an annotation is of numbers, flags or words to choose from, and of nothing but plain values.

    >>> _is_checked(Annotated[int, "> 0"] | None), _is_checked(Literal["a"]), _is_checked(tuple[float, object])
    (True, True, False)
    """
    parts = _parts(annotation)
    return any(part in _CHECKED for part in parts) and all(part in _ATOMS for part in parts)


def _is_shape(annotation: Any) -> bool:
    """Whether an annotation has a tuple among others, as sizes of images do, of which constructors say more."""
    inner = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return any(get_origin(each) is tuple for each in inner)


def _parts(annotation: Any) -> list[Any]:
    """The types of the values in an annotation, at any depth."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [Literal]
    if origin is Annotated:
        return _parts(inner[0])
    if origin in (Union, UnionType, tuple, list, Sequence, dict, Mapping):
        return [part for each in inner if each is not ... for part in _parts(each)]
    return [annotation]


def _plain(value: Any) -> Any:
    """A value as JSON knows it: numbers and arrays of NumPy and torch, sequences and mappings, as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _parameters(mro: tuple[type, ...]) -> dict[str, Parameter]:
    """The parameters of the first constructor in ``mro`` with those it passes on; annotations are resolved."""
    place = next(i for i, base in enumerate(mro) if "__init__" in vars(base))
    init = vars(mro[place])["__init__"]
    if mro[place] is object:
        return {}
    found = dict[str, Parameter]()
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        annotation = _resolved(init, parameter.name)
        if parameter.kind is Parameter.VAR_KEYWORD:
            inherited = _parameters(mro[place + 1 :]) or {parameter.name: parameter}
            passed = _keys(annotation) or frozenset(inherited)
            changed = vars(mro[place]).get("defaults", {})
            inherited |= {name: inherited[name].replace(default=value) for name, value in changed.items()}
            found |= {name: inherited[name] for name in inherited if name in passed and name not in found}
        elif parameter.kind is not Parameter.VAR_POSITIONAL:
            found[parameter.name] = parameter.replace(annotation=annotation)
    return found


def _resolved(init: Any, name: str) -> Any:
    """An annotation of a function; as it is written if it names what only type checkers see."""
    written = getattr(init, "__annotations__", {}).get(name, Parameter.empty)
    alone = SimpleNamespace(__annotations__={name: written})
    try:
        return get_type_hints(alone, getattr(inspect.unwrap(init), "__globals__", {}), include_extras=True)[name]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return written


def _keys(annotation: Any) -> frozenset[str]:
    """The keys of ``Unpack[SomeTypedDict]``; no keys for any other annotation."""
    return frozenset(key for options in get_args(annotation) for key in getattr(options, "__annotations__", ()))
