"""Annotations as tests of plain values, interpreted from the syntax tree and never evaluated.

What is not understood accepts anything. A class accepts only an entry with ``_target_``: no YAML value is an instance.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from lightning_nas.cli.config.kinds import (
    ANYTHING,
    BOOL,
    ENTRY,
    FLOAT,
    INT,
    NULL,
    STR,
    Kind,
    bounded,
    dict_of,
    list_of,
    longer,
    one_of,
    tuple_of,
    union,
)
from lightning_nas.cli.config.source import Imported, Module, definition_of

_DEPTH = 16
# classes for which a plain value may stand: their constructors or type checkers take one
_CONVERTIBLE = {"Enum", "IntEnum", "StrEnum", "TypedDict", "Protocol", "str", "int", "float", "dict", "list"}

_WORDS: Mapping[str, Kind] = {
    "int": INT,
    "float": FLOAT,
    "bool": BOOL,
    "str": STR,
    "None": NULL,
    "Any": ANYTHING,
    "object": ANYTHING,
    "PositiveInt": bounded(INT, {"gt": 0}),
    "NonNegativeInt": bounded(INT, {"ge": 0}),
    "PositiveFloat": bounded(FLOAT, {"gt": 0}),
    "NonNegativeFloat": bounded(FLOAT, {"ge": 0}),
    **dict.fromkeys(("list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple"), list_of(ANYTHING)),
    **dict.fromkeys(("dict", "Dict", "Mapping", "MutableMapping"), dict_of(ANYTHING, ANYTHING)),
    **dict.fromkeys(("Path", "PathLike"), STR),
    **dict.fromkeys(("Callable", "Tensor", "timedelta"), ENTRY),
}

_METADATA = {"Gt": "gt", "Ge": "ge", "Lt": "lt", "Le": "le", "MinLen": "min_length"}


def interpret(annotation: ast.expr | None, module: Module, depth: int = _DEPTH) -> Kind:
    """The test that ``annotation``, written in ``module``, stands for.

    >>> tree = ast.parse("Annotated[float, Interval(gt=0, le=1)] | None", mode="eval").body
    >>> interpret(tree, Module("example")).text
    'float > 0 and <= 1 or null'
    """
    if not depth:
        return ANYTHING
    match annotation:
        case ast.Constant(value=None):
            return NULL
        case ast.Constant(value=str(text)):
            return interpret(_parsed(text), module, depth - 1)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return union([interpret(left, module, depth - 1), interpret(right, module, depth - 1)])
        case ast.Name() | ast.Attribute():
            return _named(annotation, module, depth)
        case ast.Subscript(value=head, slice=inner):
            items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
            return _generic(_word(head, module), items, module, depth - 1)
    return ANYTHING


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None


def _word(name: ast.expr, module: Module) -> str:
    """The name under which typing and its relatives know it; empty for a name that ``module`` itself defines."""
    match name:
        case ast.Attribute(attr=attribute):
            return attribute
        case ast.Name(id=identifier):
            binding = module.bindings.get(identifier)
            if isinstance(binding, Imported):
                return binding.name
            return identifier if binding is None else ""
    return ""


def _named(name: ast.Name | ast.Attribute, module: Module, depth: int) -> Kind:
    if kind := _WORDS.get(_word(name, module)):
        return kind
    found = definition_of(name, module)
    if found is None or isinstance(found.node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ANYTHING
    if isinstance(found.node, ast.ClassDef):
        bases = {_word(base, Module("")) for base in found.node.bases}
        return ANYTHING if bases & _CONVERTIBLE else ENTRY
    return interpret(found.node, found.module, depth - 1)


def _generic(word: str, items: list[ast.expr], module: Module, depth: int) -> Kind:
    def kinds() -> list[Kind]:
        return [interpret(item, module, depth) for item in items]

    match word, items:
        case "Optional", [inner]:
            return union([interpret(inner, module, depth), NULL])
        case "Union", _:
            return union(kinds())
        case "Literal", _:
            return _literal(items)
        case "Annotated", [inner, *metadata]:
            return _constrained(interpret(inner, module, depth), metadata, module)
        case (("tuple" | "Tuple"), [inner, ast.Constant(value=value)]) if value is Ellipsis:
            return list_of(interpret(inner, module, depth))
        case (("tuple" | "Tuple"), _):
            return tuple_of(kinds())
        case (("list" | "List" | "Sequence" | "Iterable" | "Collection"), [inner]):
            return list_of(interpret(inner, module, depth))
        case (("dict" | "Dict" | "Mapping" | "MutableMapping"), [_, _]):
            return dict_of(*kinds())
        case (("Callable" | "PathLike"), _):
            return _WORDS[word]
    return ANYTHING


def _literal(items: list[ast.expr]) -> Kind:
    values = []
    for item in items:
        try:
            values.append(ast.literal_eval(item))
        except ValueError:  # a member of an enumeration, or another alias
            return ANYTHING
    return one_of(values)


def _constrained(kind: Kind, metadata: Sequence[ast.expr], module: Module) -> Kind:
    """``kind`` under ``Gt(0)``, ``Interval(ge=0, lt=1)``, ``MinLen(1)`` and the like; other metadata says nothing."""
    bounds: dict[str, float] = {}
    for item in metadata:
        if not isinstance(item, ast.Call):
            continue
        word = _word(item.func, module)
        given = {str(keyword.arg): keyword.value for keyword in item.keywords}
        if word in _METADATA and item.args:
            given[_METADATA[word]] = item.args[0]
        for name, expression in given.items():
            if name in _METADATA.values() and (number := _number(expression)) is not None:
                bounds[name] = number
    if length := bounds.pop("min_length", 0):
        kind = longer(kind, int(length))
    return bounded(kind, bounds) if bounds else kind


def _number(expression: ast.expr) -> float | None:
    try:
        value = ast.literal_eval(expression)
    except ValueError:
        return None
    return value if type(value) in (int, float) else None
