"""Constructor signatures that show every argument, also those that a class passes on to its parents."""

from __future__ import annotations

import inspect
from inspect import Parameter
from typing import Any, get_args, get_type_hints


class _Signature:
    """``__signature__`` of a class: what ``inspect.signature`` and ``help`` show."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # an instance may be called with other arguments
        return inspect.Signature(list(_parameters(owner.__mro__).values()))


class FullSignature:
    """Base of classes that name their own arguments and take their parents' as ``**options: Unpack[...]`` (PEP 692).

    A class that changes defaults of such options lists them in its ``defaults``, and passes on ``defaults | options``.

    Example:
        >>> from typing import TypedDict, Unpack
        >>> class Options(TypedDict, total=False):
        ...     batch_size: int
        >>> class Parent(FullSignature):
        ...     def __init__(self, *, batch_size: int = 64) -> None: ...
        >>> class Child(Parent):
        ...     def __init__(self, *, flip: bool = False, **options: Unpack[Options]) -> None: ...
        >>> inspect.signature(Child)
        <Signature (*, flip: bool = False, batch_size: int = 64)>
    """

    __signature__ = _Signature()


def _parameters(mro: tuple[type, ...]) -> dict[str, Parameter]:
    """The parameters of the first constructor in ``mro`` with those it passes on; annotations are resolved."""
    place = next(i for i, base in enumerate(mro) if "__init__" in vars(base))
    init = vars(mro[place])["__init__"]
    hints = get_type_hints(init, include_extras=True)
    found = dict[str, Parameter]()
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind is not Parameter.VAR_KEYWORD:
            found[parameter.name] = parameter.replace(annotation=hints.get(parameter.name, Parameter.empty))
        else:
            inherited = _parameters(mro[place + 1 :])
            passed = _keys(hints.get(parameter.name)) or frozenset(inherited)
            changed = vars(mro[place]).get("defaults", {})
            inherited |= {name: inherited[name].replace(default=value) for name, value in changed.items()}
            found |= {name: inherited[name] for name in inherited if name in passed and name not in found}
    return found


def _keys(annotation: Any) -> frozenset[str]:
    """The keys of ``Unpack[SomeTypedDict]``; no keys for any other annotation."""
    return frozenset(key for options in get_args(annotation) for key in getattr(options, "__annotations__", ()))
